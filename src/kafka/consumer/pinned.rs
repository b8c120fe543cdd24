//! Records that are kept where librdkafka put them, and how much that takes. A record keeps the whole answer of a broker that it
//! came in, which may hold a thousand others: so answers are counted, not records.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::kafka::native::{Answer, Handle, Message};

/// The answers that are kept for records that the host has.
pub struct Answers {
    /// Bytes that they may have together. One more is kept while they have less.
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// By answer, the records that need it.
    records: HashMap<Answer, usize>,
    bytes: usize,
}

impl Answers {
    pub fn new(most: usize) -> Self {
        Answers { most, kept: Mutex::default() }
    }

    fn keep(&self, answer: Answer) -> bool {
        let Kept { records, bytes } = &mut *self.kept.lock();
        match records.entry(answer) {
            Entry::Occupied(mut others) => *others.get_mut() += 1,
            Entry::Vacant(_) if *bytes >= self.most => return false,
            Entry::Vacant(first) => {
                first.insert(1);
                *bytes += answer.bytes;
            }
        }
        true
    }

    fn let_go(&self, answer: Answer) {
        let Kept { records, bytes } = &mut *self.kept.lock();
        if let Entry::Occupied(mut left) = records.entry(answer) {
            *left.get_mut() -= 1;
            if *left.get() == 0 {
                left.remove();
                *bytes -= answer.bytes;
            }
        }
    }
}

/// A message that its holder may keep for as long as they like: the client is there as long.
pub struct Pinned {
    message: Message,
    answer: Answer,
    answers: Arc<Answers>,
    _client: Arc<Handle>,
}

impl Pinned {
    /// Gives the message back if its answer would be one too many.
    pub fn try_new(message: Message, answers: &Arc<Answers>, client: &Arc<Handle>) -> Result<Self, Message> {
        match message.answer() {
            Some(answer) if answers.keep(answer) => {
                Ok(Pinned { message, answer, answers: answers.clone(), _client: client.clone() })
            }
            _ => Err(message),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        self.message.payload()
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.answers.let_go(self.answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_counted_once_however_many_of_its_records_are_kept() {
        let answer = |address, bytes| Answer { address, bytes };
        let answers = Answers::new(100);
        for _ in 0..3 {
            assert!(answers.keep(answer(1, 60)));
        }
        assert!(answers.keep(answer(2, 60)), "the first is below the limit");
        assert!(!answers.keep(answer(3, 1)), "and both are above");
        assert!(answers.keep(answer(1, 60)), "more of what is kept anyway takes nothing more");
        for _ in 0..4 {
            assert!(!answers.keep(answer(3, 1)));
            answers.let_go(answer(1, 60));
        }
        assert!(answers.keep(answer(3, 1)));
    }
}
