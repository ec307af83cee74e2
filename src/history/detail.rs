//! Call detail records in the store. A record that is too long for one value goes on under further keys. A call that was answered is kept,
//! too, until its record is there: what a process that ended without warning leaves behind, the next one makes records and entries of.
//!
//! The key of a record is the call's number, eight bytes, the highest first; its further parts have two more.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Kept, find};
use crate::call::Id;
use crate::call::record::{EndedBy, Record};
use crate::storage::{Batch, Storage, StorageError, Table};

/// Most moves, stays and legs that one value has of each.
const PART: usize = 12;
/// The lists of a record that may be long.
const LISTS: [&str; 3] = ["moves", "parties", "media"];
/// Why a call ended that the process did not survive.
const INTERRUPTED: &str = "the switch stopped without warning while the call went on; when it ended is not known";

/// Returns the writes that keep a record, in place of what was kept of the call while it went on.
#[must_use]
pub fn writes(mut record: Record) -> Vec<Batch> {
    let rest = |len: usize| PART.min(len);
    let mut moves = record.moves.split_off(rest(record.moves.len())).into_iter();
    let mut parties = record.parties.split_off(rest(record.parties.len())).into_iter();
    let mut media = record.media.split_off(rest(record.media.len())).into_iter();
    let key = record.id.0.to_be_bytes();
    let mut first = Batch::new();
    first.put(Table::Cdr, &key, &bytes(&record)).remove(Table::UnderWay, &key);
    let mut batches = vec![first];
    for part in 1..=u16::MAX {
        let (moves, parties, media) = (next(&mut moves), next(&mut parties), next(&mut media));
        if moves.is_empty() && parties.is_empty() && media.is_empty() {
            break;
        }
        let value = bytes(&serde_json::json!({ "moves": moves, "parties": parties, "media": media }));
        let mut batch = Batch::new();
        batch.put(Table::Cdr, &[&key[..], &part.to_be_bytes()].concat(), &value);
        batches.push(batch);
    }
    batches
}

fn next<T>(of: &mut impl Iterator<Item = T>) -> Vec<T> {
    of.take(PART).collect()
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("it has no map with keys that are no text")
}

/// Reads all records, the oldest first; may read the disk.
///
/// # Errors
///
/// The store cannot be read.
pub fn all(storage: &Storage) -> Result<Vec<Map<String, Value>>, StorageError> {
    let mut records: Vec<Map<String, Value>> = Vec::new();
    for found in storage.scan(Table::Cdr, b"") {
        let (key, value) = found?;
        let Ok(mut value) = serde_json::from_slice::<Map<String, Value>>(&value) else { continue };
        match records.last_mut() {
            Some(record) if key.len() > size_of::<Id>() => {
                for list in LISTS {
                    let Some(Value::Array(more)) = value.get_mut(list) else { continue };
                    let known = record.entry(list).or_insert_with(|| Value::Array(Vec::new()));
                    known.as_array_mut().into_iter().for_each(|known| known.append(more));
                }
            }
            _ => records.push(value),
        }
    }
    Ok(records)
}

/// A call was answered: this becomes its record if the process does not survive it.
pub fn note_call(record: &Record, batch: &mut Batch) {
    batch.put(Table::UnderWay, &record.id.0.to_be_bytes(), &bytes(record));
}

/// A call is over that has no record of its own: it became part of another one.
pub fn forget_call(call: Id, batch: &mut Batch) {
    batch.remove(Table::UnderWay, &call.0.to_be_bytes());
}

/// A user is in a call that was answered: this becomes their entry if the process does not survive it.
pub fn note_part(kept: &Kept, batch: &mut Batch) {
    batch.put(Table::UnderWay, kept.entry.id.as_str().as_bytes(), &bytes(kept));
}

/// The part of a user in a call is over: their entry is kept with this batch.
pub(crate) fn forget(kept: &Kept, batch: &mut Batch) {
    batch.remove(Table::UnderWay, kept.entry.id.as_str().as_bytes());
}

/// Makes records of the calls that an earlier process did not survive, and entries for those who are users; returns how many calls there
/// were.
///
/// # Errors
///
/// The store cannot be read or written.
pub async fn take_up(storage: &Storage) -> Result<usize, StorageError> {
    let under_way = storage.scan(Table::UnderWay, b"").collect::<Result<Vec<_>, _>>()?;
    let calls: BTreeSet<u64> = under_way.iter().filter_map(|(key, _)| number(key)).collect();
    for (key, value) in under_way {
        let mut batch = Batch::new();
        match number(&key) {
            Some(_) => {
                if let Ok(mut record) = serde_json::from_slice::<Map<String, Value>>(&value) {
                    let until = record.get("answered_at").cloned().unwrap_or_default();
                    record.insert("ended_at".to_owned(), until);
                    record.insert("ended_by".to_owned(), serde_json::to_value(EndedBy::Lost).unwrap_or_default());
                    record.insert("reason".to_owned(), INTERRUPTED.into());
                    batch.put(Table::Cdr, &key, &bytes(&record));
                }
            }
            None => {
                if let Ok(mut kept) = serde_json::from_slice::<Kept>(&value)
                    && u64::from_str_radix(kept.entry.call.as_str(), 16).is_ok_and(|call| calls.contains(&call))
                    && find(storage, &kept.entry.id)?.is_none()
                    && storage.get(Table::User, kept.entry.user.as_str().as_bytes())?.is_some()
                {
                    (kept.entry.talked, kept.entry.why) = (None, Some(INTERRUPTED.to_owned()));
                    kept.put(&mut batch);
                }
            }
        }
        batch.remove(Table::UnderWay, &key);
        storage.write(&batch).await?;
    }
    Ok(calls.len())
}

/// Reads the key of a record.
fn number(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cas::text::{EntryId, UserName};
    use cas::topic::history::Kind;
    use serde_json::json;

    use super::super::Part;
    use super::*;
    use crate::call::record::Stay;

    fn record(id: u64) -> Record {
        let ann = Arc::from("sip:ann@tandem.test");
        let mut record = Record::begun(Id(id), (&ann, &ann), "501", 1000);
        (record.answered_at, record.status) = (Some(2000), 200);
        record
    }

    fn part(call: u64, party: u16) -> Kept {
        Kept::of(&Part {
            call,
            party,
            user: "ann",
            kind: Kind::Received,
            number: Some("501"),
            name: None,
            device: None,
            rang: &[],
            started_at: 1000,
            talked: Some(0),
            why: "",
        })
        .unwrap()
    }

    fn why(storage: &Storage, id: &str) -> Option<String> {
        find(storage, &EntryId::parse(id).unwrap()).unwrap()?.entry.why
    }

    #[tokio::test]
    async fn the_record_of_a_long_conference_is_whole() {
        let (storage, _memory) = Storage::memory();
        let mut long = record(7);
        for n in 0..1000_u64 {
            long.parties.push(Stay { party: format!("sip:user-{n}@tandem.test").into(), came_at: n, left_at: None });
        }
        let stays = serde_json::to_value(&long.parties).unwrap();
        for record in [record(6), long, record(8)] {
            for batch in writes(record) {
                storage.write(&batch).await.unwrap();
            }
        }
        let records = all(&storage).unwrap();
        assert_eq!(records.iter().map(|record| record["id"].as_u64()).collect::<Vec<_>>(), [Some(6), Some(7), Some(8)]);
        assert_eq!(records[1]["parties"], stays);
        assert_eq!(records[2].get("parties"), None);
    }

    #[tokio::test]
    async fn what_a_process_did_not_survive_gets_a_record_and_entries_and_what_is_over_stays_as_it_is() {
        let (storage, _memory) = Storage::memory();
        let mut batch = Batch::new();
        batch.put(Table::User, b"ann", b"F");
        // 5 goes on with its first party; its second one has left it. 6 was over, and an entry of 4 is of nothing that is known.
        note_call(&record(5), &mut batch);
        note_call(&record(6), &mut batch);
        let mut removed = part(5, 1);
        removed.entry.user = UserName::parse("eve").unwrap();
        for party in [part(5, 0), part(5, 300), part(6, 0), part(4, 0), removed] {
            note_part(&party, &mut batch);
        }
        for mut over in [part(5, 300), part(6, 0)] {
            over.entry.why = Some("somebody hung up".to_owned());
            over.put(&mut batch);
        }
        // 7 became part of another one
        note_call(&record(7), &mut batch);
        note_part(&part(7, 0), &mut batch);
        storage.write(&batch).await.unwrap();
        let mut batch = Batch::new();
        forget_call(Id(7), &mut batch);
        storage.write(&batch).await.unwrap();
        for batch in writes(record(6)) {
            storage.write(&batch).await.unwrap();
        }
        assert_eq!(take_up(&storage).await.unwrap(), 1);
        let records = all(&storage).unwrap();
        let told = |at: usize| json!([records[at]["id"], records[at]["reason"], records[at]["ended_at"], records[at]["ended_by"]]);
        assert_eq!(told(0), json!([5, INTERRUPTED, 2000, "lost"]));
        assert_eq!(told(1), json!([6, "", 1000, "switch"]));
        assert_eq!(why(&storage, "0000000000000005-0").as_deref(), Some(INTERRUPTED));
        for over in ["0000000000000005-300", "0000000000000006-0"] {
            assert_eq!(why(&storage, over).as_deref(), Some("somebody hung up"), "{over}");
        }
        for unknown in ["0000000000000004-0", "0000000000000007-0", "0000000000000005-1"] {
            assert_eq!(find(&storage, &EntryId::parse(unknown).unwrap()).unwrap(), None, "{unknown}");
        }
        assert_eq!(records.len(), 2);
        assert_eq!(take_up(&storage).await.unwrap(), 0, "once");
    }
}
