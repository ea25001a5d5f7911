//! `login_attempts`: logins of users, and attacks.
//!
//! An attack lasts two minutes: one address tries the passwords of two hundred accounts, and rarely succeeds.

use serde::Serialize;

use super::chance::{Dice, episode};
use super::{Event, iso};

const MINUTE: i64 = 60_000;
const ACCOUNTS: u64 = 5_000;
const COUNTRIES: [&str; 8] = ["AT", "BE", "CH", "DE", "DK", "FR", "IT", "NL"];
/// An attack may start every five minutes.
const ATTACK: (i64, i64, f64) = (5 * MINUTE, 2 * MINUTE, 0.5);
const VICTIMS: u64 = 200;

#[derive(Serialize)]
struct Attempt<'a> {
    account: &'a str,
    address: String,
    country: &'a str,
    ts: String,
    success: bool,
}

pub(super) fn event(seed: u64, dice: &mut Dice, ts: i64) -> Event {
    let attacked = episode(seed, &["attack"], ts, ATTACK).is_some();
    if attacked && dice.happens(0.5) { attack(seed, dice, ts) } else { visit(seed, dice, ts) }
}

/// A user logs in from home. Some users log in more often than others.
fn visit(seed: u64, dice: &mut Dice, ts: i64) -> Event {
    let number = (ACCOUNTS as f64 * dice.unit().powi(2)) as u64;
    let account = format!("user-{number:04}");
    let mut home = Dice::new(seed, &["home"], number);
    let address = format!("100.64.{}.{}", home.below(250), 1 + home.below(250));
    let attempt = Attempt {
        account: &account,
        address,
        country: home.pick(&COUNTRIES),
        ts: iso(ts),
        success: dice.happens(0.94),
    };
    Event::of(&account, &attempt)
}

fn attack(seed: u64, dice: &mut Dice, ts: i64) -> Event {
    let number = ts.div_euclid(ATTACK.0) as u64;
    let mut attacker = Dice::new(seed, &["attacker"], number);
    let address = format!("203.0.113.{}", 1 + attacker.below(250));
    let first = attacker.below(ACCOUNTS - VICTIMS);
    let account = format!("user-{:04}", first + dice.below(VICTIMS));
    let attempt = Attempt { account: &account, address, country: "ZZ", ts: iso(ts), success: dice.happens(0.005) };
    Event::of(&account, &attempt)
}
