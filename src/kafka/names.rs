//! The names of those who use a client, as messages show them: `producer "detector"`.

use std::sync::Arc;

use parking_lot::RwLock;

pub struct Names(RwLock<State>);

struct State {
    /// In the order in which they came.
    users: Vec<Arc<str>>,
    /// Who uses it, or used it last.
    latest: Arc<str>,
}

impl Names {
    /// Of a client that nobody uses yet.
    pub fn new(name: &str) -> Self {
        Names(RwLock::new(State { users: Vec::new(), latest: name.into() }))
    }

    pub fn of_one(name: &str) -> Self {
        let names = Names::new(name);
        names.add(name);
        names
    }

    pub fn add(&self, name: &str) {
        let mut state = self.0.write();
        state.latest = name.into();
        let name = state.latest.clone();
        state.users.push(name);
    }

    pub fn remove(&self, name: &str) {
        let mut state = self.0.write();
        if let Some(at) = state.users.iter().position(|known| &**known == name) {
            state.users.remove(at);
        }
    }

    /// Of those who use it now.
    pub fn all(&self) -> Vec<Arc<str>> {
        self.0.read().users.clone()
    }

    /// One name for all, for messages about what they have in common.
    pub fn together(&self) -> Arc<str> {
        let state = self.0.read();
        match state.users.as_slice() {
            [] => state.latest.clone(),
            [only] => only.clone(),
            [first, others @ ..] => format!("{first} and {} more with the same properties", others.len()).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_stands_for_itself_and_several_are_counted() {
        let names = Names::of_one("producer \"a\"");
        assert_eq!(&*names.together(), "producer \"a\"");
        names.add("producer \"b\"");
        names.add("producer \"c\"");
        assert_eq!(&*names.together(), "producer \"a\" and 2 more with the same properties");
        names.remove("producer \"a\"");
        names.remove("producer \"b\"");
        assert_eq!(&*names.together(), "producer \"c\"");
        names.remove("producer \"c\"");
        assert_eq!(&*names.together(), "producer \"c\"", "the last one is shown");
        assert!(names.all().is_empty(), "and is told of nothing");
    }
}
