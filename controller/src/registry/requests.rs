//! Answers by request id: the same call gets the same answer for a day, another call under the same id is refused.
//! Append-only rows on disk, a bounded index in memory.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use drover_domain::time::Timestamp;

use crate::store::{KeptAnswer, RequestKey};

/// How long an answer is kept.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// How many are kept at most; the oldest go first.
const MOST: usize = 500_000;

#[derive(Debug, Default)]
pub(super) struct Requests {
    answers: HashMap<RequestKey, ([u8; 32], Bytes)>,
    order: VecDeque<(Timestamp, RequestKey)>,
}

/// What is known of a request id.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    Answered(Bytes),
    /// By another call.
    Taken,
}

impl Requests {
    pub(super) fn load(answers: &[KeptAnswer]) -> Self {
        let mut requests = Self::default();
        answers.iter().for_each(|kept| requests.keep(kept));
        requests
    }

    pub(super) fn find(&self, asked: &RequestKey, payload: &[u8; 32]) -> Option<Known> {
        let (known, answer) = self.answers.get(asked)?;
        Some(if known == payload { Known::Answered(answer.clone()) } else { Known::Taken })
    }

    pub(super) fn keep(&mut self, kept: &KeptAnswer) {
        self.answers.insert(kept.key.clone(), (kept.payload, kept.answer.clone()));
        self.order.push_back((kept.at, kept.key.clone()));
        self.expire(kept.at);
    }

    fn expire(&mut self, now: Timestamp) {
        while let Some((at, _)) = self.order.front()
            && (now.since(*at) > KEPT_FOR || self.order.len() > MOST)
        {
            if let Some((_, key)) = self.order.pop_front() {
                self.answers.remove(&key);
            }
        }
    }
}
