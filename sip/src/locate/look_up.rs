//! The questions of one search and their answers: each asked once, aliases followed, all of it bounded.

use std::collections::BTreeMap;

use super::{Answer, Question, Record};

/// Open and answered questions.
#[derive(Debug, Default)]
pub(super) struct LookUps {
    /// Each open question with the one it was first asked for, before aliases.
    open: Vec<(Question, Question)>,
    answers: BTreeMap<Question, Vec<Record>>,
    asked: usize,
}

impl LookUps {
    /// Most questions of one search, those for aliases included; further ones count as answered with nothing.
    const MAX_QUESTIONS: usize = 32;
    /// Most records of one answer that are looked at.
    const MAX_RECORDS: usize = 32;

    /// Notes a question; returns it if it is to be asked, which it is not when it was before or when there were too many.
    pub(super) fn ask(&mut self, question: Question) -> Option<Question> {
        self.follow(question.clone(), question)
    }

    fn follow(&mut self, question: Question, origin: Question) -> Option<Question> {
        let is_open = self.is_open(&question);
        if self.answers.contains_key(&question) || self.open.contains(&(question.clone(), origin.clone())) {
            return None;
        }
        if !is_open {
            if self.asked == Self::MAX_QUESTIONS {
                return None;
            }
            self.asked += 1;
        }
        self.open.push((question.clone(), origin));
        (!is_open).then_some(question)
    }

    pub(super) fn is_open(&self, question: &Question) -> bool {
        self.open.iter().any(|(open, _)| open == question)
    }

    /// Takes an answer; returns questions for aliases that it names.
    pub(super) fn answer(&mut self, question: &Question, answer: Answer) -> Vec<Question> {
        let mut records = match answer {
            Answer::Records(records) => records,
            Answer::Failed => Vec::new(),
        };
        records.truncate(Self::MAX_RECORDS);
        let (done, open) = std::mem::take(&mut self.open).into_iter().partition(|(open, _)| open == question);
        self.open = open;
        let is_only_alias = records.iter().all(|record| matches!(record, Record::Cname(_)));
        let alias = records.iter().find_map(|record| match record {
            Record::Cname(name) if is_only_alias => Some(Question { kind: question.kind, name: super::normal(name) }),
            Record::Cname(_) | Record::Naptr { .. } | Record::Srv { .. } | Record::Address(_) => None,
        });
        let mut next = Vec::new();
        for (_, origin) in done {
            match &alias {
                Some(alias) => {
                    // An alias that leads back has an answer already, or is open, or runs into the bound.
                    self.answers.entry(question.clone()).or_default();
                    next.extend(self.follow(alias.clone(), origin));
                }
                None => self.answers.entry(origin).or_default().extend(records.iter().cloned()),
            }
        }
        next
    }

    /// Ends all open questions.
    pub(super) fn give_up(&mut self) {
        self.open.clear();
    }

    pub(super) fn is_complete(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns the records of a question.
    pub(super) fn get(&self, question: &Question) -> &[Record] {
        self.answers.get(question).map_or(&[], Vec::as_slice)
    }

    /// Takes the records of a question.
    pub(super) fn take(&mut self, question: &Question) -> Vec<Record> {
        self.answers.remove(question).unwrap_or_default()
    }
}
