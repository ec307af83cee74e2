//! The order of SRV records (RFC 2782): by priority, and among equals by chance in proportion to weight.

use bytestring::ByteString;

use super::Record;

/// An SRV record.
#[derive(Clone, Debug)]
pub(super) struct Srv {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    /// Empty for the root, which means that there is no such service.
    pub(super) target: ByteString,
}

impl Srv {
    pub(super) fn of(record: Record) -> Option<Self> {
        match record {
            Record::Srv { priority, weight, port, target } => Some(Self { priority, weight, port, target: super::normal(&target) }),
            Record::Naptr { .. } | Record::Address(_) | Record::Cname(_) => None,
        }
    }
}

pub(super) fn by_priority_and_weight(mut records: Vec<Srv>, random: &mut u64) -> Vec<Srv> {
    // Those of weight 0 come first in their group, so that they have a small chance.
    records.sort_by_key(|srv| (srv.priority, srv.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let group = records.iter().take_while(|srv| srv.priority == first.priority);
        let total: u64 = group.clone().map(|srv| u64::from(srv.weight)).sum();
        let drawn = next(random) % (total + 1);
        let mut sum = 0;
        let chosen = group.clone().position(|srv| {
            sum += u64::from(srv.weight);
            sum >= drawn
        });
        ordered.push(records.remove(chosen.unwrap_or(0)));
    }
    ordered
}

/// The generator splitmix64: what it decides is worth nothing to an attacker.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn srv(target: &'static str, priority: u16, weight: u16) -> Srv {
        Srv { priority, weight, port: 5060, target: ByteString::from_static(target) }
    }

    #[test]
    fn the_lowest_priority_comes_first_and_weight_decides_among_equals() {
        let records = vec![srv("backup", 2, 100), srv("light", 1, 1), srv("heavy", 1, 3), srv("none", 1, 0)];
        let mut first = std::collections::BTreeMap::new();
        for seed in 0..4000 {
            let ordered = by_priority_and_weight(records.clone(), &mut (seed * 7919));
            assert_eq!((ordered.len(), &*ordered[3].target), (4, "backup"));
            *first.entry(ordered[0].target.to_string()).or_insert(0) += 1;
        }
        // Of five numbers 0 to 4, one is for "none", one for "light", three for "heavy".
        for (name, share) in [("none", 800), ("light", 800), ("heavy", 2400)] {
            assert!((share - 200..share + 200).contains(&first[name]), "{first:?}");
        }
    }
}
