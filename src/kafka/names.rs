//! The names of those who use a client, as messages show them: `producer "detector"`.

use std::sync::Arc;

use parking_lot::RwLock;

/// In the order in which they came. There is always one: the last one to go stays.
pub struct Names(RwLock<Vec<Arc<str>>>);

impl Names {
    pub fn new(name: &str) -> Self {
        Names(RwLock::new(vec![name.into()]))
    }

    pub fn add(&self, name: &str) {
        self.0.write().push(name.into());
    }

    pub fn replace(&self, name: &str) {
        *self.0.write() = vec![name.into()];
    }

    pub fn remove(&self, name: &str) {
        let mut names = self.0.write();
        if names.len() > 1
            && let Some(at) = names.iter().position(|known| &**known == name)
        {
            names.remove(at);
        }
    }

    pub fn all(&self) -> Vec<Arc<str>> {
        self.0.read().clone()
    }

    /// One name for all, for messages about what they have in common.
    pub fn together(&self) -> Arc<str> {
        match self.0.read().as_slice() {
            [] => "".into(),
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
        let names = Names::new("producer \"a\"");
        assert_eq!(&*names.together(), "producer \"a\"");
        names.add("producer \"b\"");
        names.add("producer \"c\"");
        assert_eq!(&*names.together(), "producer \"a\" and 2 more with the same properties");
        names.remove("producer \"a\"");
        names.remove("producer \"b\"");
        names.remove("producer \"c\"");
        assert_eq!(&*names.together(), "producer \"c\"", "the last one stays");
    }
}
