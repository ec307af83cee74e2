//! Several requests in one message: which replies belong together, and when a group of them is whole. It serves nothing itself.
//!
//! Requests are begun in their order. A bad one is refused in its place and spoils none (004-83).

use serde_json::Value;

use crate::error::{Error, Fault};
use crate::login::LoginId;
use crate::server::Asked;
use crate::topic::event::{Bulk as Request, Replies};

/// Most requests in one message. A message with more is refused whole.
pub const MAX_REQUESTS: usize = 100;

/// Most bulks of all logins that wait for replies. A further one is refused.
pub const MAX_BULKS: usize = 1024;

/// A bulk whose replies are collected.
#[derive(Debug)]
pub(crate) struct Bulk {
    pub(crate) login: LoginId,
    pub(crate) replies: Replies,
    /// Whom the whole goes to, where it is one reply.
    pub(crate) asked: Option<Asked>,
    slots: Vec<Slot>,
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Slot {
    group: usize,
    reply: Option<Value>,
}

#[derive(Debug)]
struct Group {
    waits_for: usize,
    pending_id: u64,
}

/// A group whose replies are all there.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) pending_id: u64,
    pub(crate) replies: Vec<Value>,
}

impl Bulk {
    /// Checks a request for several, and groups them. `pending_id` gives numbers to the groups.
    pub(crate) fn new(login: LoginId, request: &Request, mut pending_id: impl FnMut() -> u64) -> Result<Self, Error> {
        let count = request.requests.len();
        if count == 0 || count > MAX_REQUESTS {
            let error = Error::new(
                if count == 0 { Fault::BadMessage } else { Fault::TooLarge },
                format!("a bulk has 1 to {MAX_REQUESTS} requests"),
            );
            return Err(Error { field: Some("requests".into()), ..error });
        }
        let replies = request.replies.unwrap_or(Replies::Bulk);
        let positions = match replies {
            Replies::Bulk => vec![(0..count).collect()],
            Replies::Serial => (0..count).map(|position| vec![position]).collect(),
            Replies::Mixed => request.groups.clone(),
        };
        let mut group_of = vec![None; count];
        for (group, positions) in positions.iter().enumerate() {
            for position in positions {
                let slot = group_of.get_mut(*position).filter(|slot| slot.is_none());
                *slot.ok_or_else(|| wrong_groups(count))? = Some(group);
            }
        }
        let slots: Option<Vec<Slot>> = group_of.into_iter().map(|group| Some(Slot { group: group?, reply: None })).collect();
        let slots = slots.filter(|_| positions.iter().all(|group| !group.is_empty())).ok_or_else(|| wrong_groups(count))?;
        let groups = positions.iter().map(|positions| Group { waits_for: positions.len(), pending_id: pending_id() }).collect();
        Ok(Self { login, replies, asked: None, slots, groups })
    }

    /// Returns what the groups are told apart by.
    pub(crate) fn pending_ids(&self) -> Vec<u64> {
        self.groups.iter().map(|group| group.pending_id).collect()
    }

    /// Puts a reply in its place; returns the group if it is whole now.
    pub(crate) fn fill(&mut self, position: usize, reply: Value) -> Option<Whole> {
        let slot = self.slots.get_mut(position).filter(|slot| slot.reply.is_none())?;
        let number = slot.group;
        let group = self.groups.get_mut(number).filter(|group| group.waits_for > 0)?;
        slot.reply = Some(reply);
        group.waits_for -= 1;
        let pending_id = group.pending_id;
        (group.waits_for == 0).then(|| {
            let own = self.slots.iter_mut().filter(|slot| slot.group == number);
            Whole { pending_id, replies: own.filter_map(|slot| slot.reply.take()).collect() }
        })
    }

    /// Returns whether every group is whole.
    pub(crate) fn is_over(&self) -> bool {
        self.groups.iter().all(|group| group.waits_for == 0)
    }
}

fn wrong_groups(count: usize) -> Error {
    Error::field("groups", format!("field groups: each of the positions 0 to {} must be in one group", count.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bulk(count: usize, replies: Replies, groups: Vec<Vec<usize>>) -> Result<Bulk, Error> {
        let mut last = 0;
        let request = Request { requests: vec![json!({}); count], replies: Some(replies), groups };
        Bulk::new(LoginId(1), &request, || {
            last += 1;
            last
        })
    }

    #[test]
    fn replies_come_in_the_order_of_the_requests_whenever_they_are_ready() {
        // 004-81
        let mut all = bulk(3, Replies::Bulk, Vec::new()).unwrap();
        assert!(all.fill(2, json!(2)).is_none() && all.fill(0, json!(0)).is_none() && !all.is_over());
        assert_eq!(all.fill(1, json!(1)).unwrap().replies, [json!(0), json!(1), json!(2)]);
        assert!(all.is_over() && all.fill(1, json!(9)).is_none());
    }

    #[test]
    fn groups_are_told_one_by_one() {
        let mut mixed = bulk(3, Replies::Mixed, vec![vec![2, 0], vec![1]]).unwrap();
        assert_eq!(mixed.pending_ids(), [1, 2]);
        assert_eq!(mixed.fill(1, json!(1)).unwrap().pending_id, 2);
        assert!(mixed.fill(0, json!(0)).is_none());
        assert_eq!(mixed.fill(2, json!(2)).unwrap().replies, [json!(0), json!(2)]);
        assert_eq!(bulk(2, Replies::Serial, Vec::new()).unwrap().pending_ids(), [1, 2]);
    }

    #[test]
    fn count_and_groups_are_checked() {
        // 004-83
        assert_eq!(bulk(0, Replies::Bulk, Vec::new()).unwrap_err().fault, Fault::BadMessage);
        assert_eq!(bulk(MAX_REQUESTS + 1, Replies::Bulk, Vec::new()).unwrap_err().fault, Fault::TooLarge);
        for groups in [vec![], vec![vec![0]], vec![vec![0, 1], vec![1]], vec![vec![0, 1], vec![]], vec![vec![0, 1, 2]]] {
            assert_eq!(bulk(2, Replies::Mixed, groups).unwrap_err().field.as_deref(), Some("groups"));
        }
    }
}
