//! `sensor_data`: readings of the machines of five sites.
//!
//! Every machine has its own level and follows the time of day. Sometimes a machine overheats, and sometimes its
//! sensor is stuck: it repeats one value for twenty minutes.

use std::f64::consts::TAU;

use serde::Serialize;

use super::chance::{Dice, episode, wander};
use super::{Event, iso};

const SITES: [&str; 5] = ["aachen", "basel", "colmar", "dijon", "essen"];
/// Kinds of machines and the temperature at which they work.
const MACHINES: [(&str, f64); 8] = [
    ("boiler", 78.0),
    ("chiller", 9.0),
    ("dryer", 64.0),
    ("mixer", 36.0),
    ("oven", 88.0),
    ("press", 55.0),
    ("pump", 47.0),
    ("turbine", 82.0),
];

const MINUTE: i64 = 60_000;
const DAY: i64 = 1_440 * MINUTE;
/// The warmest time of the day.
const AFTERNOON: i64 = 900 * MINUTE;
/// Every half hour one sensor in twenty is stuck for twenty minutes.
const STUCK: (i64, i64, f64) = (30 * MINUTE, 20 * MINUTE, 0.05);
/// Every hour one machine in twenty overheats for half an hour.
const HOT: (i64, i64, f64) = (60 * MINUTE, 30 * MINUTE, 0.05);
/// The temperature that an overheating machine approaches.
const PEAK: f64 = 118.0;

#[derive(Serialize)]
struct Reading<'a> {
    device: &'a str,
    site: &'a str,
    ts: String,
    temperature: f64,
}

pub(super) fn event(seed: u64, dice: &mut Dice, ts: i64) -> Event {
    let site = dice.below(SITES.len() as u64) as usize;
    let (kind, level) = dice.pick(&MACHINES);
    let device = format!("{kind}-{}", site + 1);
    let noise = dice.jitter();
    let temperature = match episode(seed, &[&device, "stuck"], ts, STUCK) {
        Some(_) => temperature(seed, &device, level, ts - ts.rem_euclid(STUCK.0)),
        None => temperature(seed, &device, level, ts) + noise,
    };
    let reading =
        Reading { device: &device, site: SITES[site], ts: iso(ts), temperature: (temperature * 10.0).round() / 10.0 };
    Event::of(&device, &reading)
}

/// The machine's temperature without the sensor's noise.
fn temperature(seed: u64, device: &str, level: f64, ts: i64) -> f64 {
    let day = (TAU * (ts - AFTERNOON).rem_euclid(DAY) as f64 / DAY as f64).cos();
    let usual = level + 5.0 * day + 3.0 * wander(seed, &[device, "load"], ts, 7 * MINUTE);
    match episode(seed, &[device, "hot"], ts, HOT) {
        Some(done) => usual + (PEAK - usual) * (done * TAU / 2.0).sin(),
        None => usual,
    }
}
