//! Oids of schemas, streams and views.
//!
//! Clients keep oids between queries and connections, and replicas answer one client in turn. Invariant: an oid depends
//! on the schema and the name alone, unless two names of one catalog meet at the same number.

use std::collections::BTreeMap;

/// The first number that PostgreSQL gives to objects of users.
const FIRST: u64 = 16_384;
/// The numbers from [`FIRST`] to the largest 32-bit number.
const COUNT: u64 = i32::MAX as u64 - FIRST;

/// The oids of `names` (schema and name; the name of a schema itself is empty). Of names that meet, the first in order
/// has the number and the others have the next free ones.
pub(super) fn oids<'a>(names: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<(&'a str, &'a str), i32> {
    let mut names: Vec<_> = names.into_iter().map(|(schema, name)| (place(schema, name), schema, name)).collect();
    names.sort_unstable();
    let mut taken = BTreeMap::new();
    for (mut place, schema, name) in names {
        while taken.contains_key(&place) {
            place = (place + 1) % COUNT;
        }
        taken.insert(place, (schema, name));
    }
    taken.into_iter().map(|(place, name)| (name, i32::try_from(FIRST + place).unwrap_or(i32::MAX))).collect()
}

/// FNV-1a: short, and the same in every version of this program.
fn place(schema: &str, name: &str) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in schema.bytes().chain([0]).chain(name.bytes()) {
        hash ^= u64::from(byte);
        hash = hash.wrapping_mul(0x0100_0000_01b3);
    }
    (hash ^ (hash >> 32)) % COUNT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oid_does_not_change() {
        let few = oids([("public", "sensor_data")]);
        let many = oids([("public", "totals"), ("public", "sensor_data"), ("rejects", "sensor_data"), ("batch", "")]);
        assert_eq!(few[&("public", "sensor_data")], many[&("public", "sensor_data")]);
        assert_eq!(few[&("public", "sensor_data")], 606_409_090);
        let mut numbers: Vec<i32> = many.values().copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 4);
        assert!(numbers[0] >= 16_384);
    }

    #[test]
    fn names_that_meet_are_told_apart() {
        let names: Vec<String> = (0..100_000).map(|n| format!("name_{n}")).collect();
        let all = oids(names.iter().map(|name| ("public", name.as_str())));
        let places: std::collections::BTreeSet<u64> = names.iter().map(|name| place("public", name)).collect();
        assert!(places.len() < names.len(), "some meet");
        assert_eq!(all.values().collect::<std::collections::BTreeSet<_>>().len(), names.len());
        let backwards = oids(names.iter().rev().map(|name| ("public", name.as_str())));
        assert_eq!(all, backwards);
    }
}
