//! The names of the producers, or of the consumer, that use a client, for messages: `producer
//! "detector"`.

use std::sync::Arc;

use parking_lot::RwLock;

/// The names of a client's users.
pub struct Names(RwLock<NameList>);

struct NameList {
    /// In the order in which they joined.
    users: Vec<Arc<str>>,
    /// The user that joined last.
    latest: Arc<str>,
}

impl Names {
    /// The names of a client without users, which is called `name` until one joins.
    pub fn new(name: &str) -> Self {
        Names(RwLock::new(NameList { users: Vec::new(), latest: name.into() }))
    }

    /// The names of a client with one user.
    pub fn with_name(name: &str) -> Self {
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

    /// The names of the current users.
    pub fn all(&self) -> Vec<Arc<str>> {
        self.0.read().users.clone()
    }

    /// One name for all users, for messages about their client.
    pub fn summary(&self) -> Arc<str> {
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
    fn summary_is_the_only_name_or_the_first_with_a_count() {
        let names = Names::with_name("producer \"a\"");
        assert_eq!(&*names.summary(), "producer \"a\"");
        names.add("producer \"b\"");
        names.add("producer \"c\"");
        assert_eq!(&*names.summary(), "producer \"a\" and 2 more with the same properties");
        names.remove("producer \"a\"");
        names.remove("producer \"b\"");
        assert_eq!(&*names.summary(), "producer \"c\"");
        names.remove("producer \"c\"");
        assert_eq!(&*names.summary(), "producer \"c\"", "the last one is shown");
        assert!(names.all().is_empty(), "and gets no reports");
    }
}
