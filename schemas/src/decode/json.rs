//! JSON messages: exactly one object per message, its keys matched with the columns by name.
//!
//! Values are read by arrow-json, so its rules hold:
//! - Keys are compared as they are written, upper and lower case apart; of a key that occurs twice the last counts.
//!   Unknown keys are ignored; missing ones are null.
//! - Numbers may stand in strings (`"12"`); strings and booleans must be what they are declared as. A fraction is cut
//!   off for whole-number columns (`1.5` is 1), a number out of the column's range is refused; digits beyond a
//!   DECIMAL's scale are cut off. A DOUBLE takes `"NaN"` and `"Infinity"` in strings.
//! - TIMESTAMP: RFC 3339, `2024-05-01 12:00:00[.ffffff]` or a date; an offset is applied, without one UTC is meant.
//!   A number counts microseconds since 1970. DATE: `2024-05-01`, or days since 1970 as a number.
//! - BYTEA is hexadecimal text. Commas may be missing or repeated.
//!
//! Invariant: no byte of a message reaches the row of another. arrow-json reads a stream of objects, so after each
//! message it must stand between two objects, exactly one object further on; if not, its state is thrown away.

use std::borrow::Cow;

use arrow::array::BooleanArray;
use arrow::buffer::NullBuffer;
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::Decoder as ObjectDecoder;
use arrow::record_batch::RecordBatch;

use super::decimals::{DecimalGuard, Sight};
use super::{Messages, Parsed, Reason};
use crate::canonical;

/// Messages decoded between two flushes while nothing is wrong with them.
const LONGEST_RUN: usize = 1024;
/// Payload bytes decoded between two flushes: below what 32-bit positions can address.
const LONGEST_RUN_BYTES: usize = 64 << 20;
/// How deep objects and lists may nest. arrow-json prints an unexpected value by recursion.
const DEEPEST_NESTING: usize = 128;

const WRONG_TYPE: Reason = Cow::Borrowed("a value is not of its column's type");

/// Reads JSON messages into the columns of a schema.
#[derive(Debug)]
pub(super) struct JsonReader {
    /// All nullable.
    columns: SchemaRef,
    objects: ObjectDecoder,
    /// How many objects `objects` takes between two flushes.
    capacity: usize,
    /// Messages of the next run: short while messages are bad, because much of such a run is read again.
    run: usize,
    /// True if messages of the present run had to be read again.
    disturbed: bool,
    decimals: Option<DecimalGuard>,
}

/// What the messages became so far, in order.
#[derive(Debug)]
struct Outcome {
    batches: Vec<RecordBatch>,
    reasons: Vec<Option<Reason>>,
}

impl Outcome {
    fn reject(&mut self, at: usize, reason: Reason) {
        self.reasons[at] = Some(reason);
    }
}

impl JsonReader {
    /// Errors: a column type that arrow-json cannot read.
    pub(super) fn new(columns: SchemaRef) -> Result<Self, ArrowError> {
        Ok(Self {
            objects: objects(&columns, LONGEST_RUN)?,
            capacity: LONGEST_RUN,
            run: LONGEST_RUN,
            disturbed: false,
            decimals: DecimalGuard::new(&columns),
            columns,
        })
    }

    /// Reads all of `messages`.
    ///
    /// Errors: only what no message can cause.
    pub(super) fn read(&mut self, messages: &Messages) -> Result<Parsed, ArrowError> {
        let mut outcome = Outcome {
            batches: Vec::new(),
            reasons: vec![None; messages.len()],
        };
        let mut sound = Vec::with_capacity(messages.len());
        for at in 0..messages.len() {
            match self.look(messages.payload(at))? {
                None => sound.push(at),
                Some(reason) => outcome.reject(at, reason),
            }
        }
        let mut rest = sound.as_slice();
        while !rest.is_empty() {
            let (run, later) = rest.split_at(run_length(messages, rest, self.run));
            self.disturbed = false;
            self.read_run(messages, run, &mut outcome)?;
            self.run = if self.disturbed {
                (self.run / 4).max(1)
            } else {
                (self.run * 2).min(LONGEST_RUN)
            };
            rest = later;
        }
        Ok(Parsed {
            columns: match outcome.batches.len() {
                1 => outcome.batches.remove(0),
                _ => concat_batches(&self.columns, &outcome.batches)?,
            },
            reasons: outcome.reasons,
        })
    }

    /// What can be said of a message without decoding it: most garbage ends here, and everything that arrow-json
    /// could not be trusted with.
    fn look(&self, payload: &[u8]) -> Result<Option<Reason>, ArrowError> {
        let text = payload.trim_ascii();
        let Some((first, last)) = text.first().zip(text.last()) else {
            return Ok(Some("the message is empty".into()));
        };
        if std::str::from_utf8(text).is_err() {
            return Ok(Some("the message is not UTF-8 text".into()));
        }
        if *first != b'{' {
            return Ok(Some("the message is not a JSON object".into()));
        }
        if *last != b'}' {
            return Ok(Some(explain_syntax(text)));
        }
        if nests_too_deep(text) {
            return Ok(Some(
                format!("objects and lists nest deeper than {DEEPEST_NESTING}").into(),
            ));
        }
        let Some(guard) = &self.decimals else {
            return Ok(None);
        };
        Ok(match guard.look(text)? {
            Sight::Harmless => None,
            Sight::Dangerous => {
                Some("a number has more digits or a larger exponent than a DECIMAL can hold".into())
            }
            Sight::Broken => Some(syntax_fault(text).unwrap_or(WRONG_TYPE)),
        })
    }

    /// Reads the messages at the positions `run`, none of them twice as far as the result goes.
    fn read_run(
        &mut self,
        messages: &Messages,
        run: &[usize],
        outcome: &mut Outcome,
    ) -> Result<(), ArrowError> {
        let mut rest = run;
        while !rest.is_empty() {
            let Some(bad) = self.feed(messages, rest)? else {
                return self.settle(messages, rest, outcome);
            };
            self.disturbed = true;
            self.renew(rest.len())?;
            self.read_run(messages, &rest[..bad], outcome)?;
            outcome.reject(rest[bad], explain_syntax(messages.payload(rest[bad])));
            rest = &rest[bad + 1..];
        }
        Ok(())
    }

    /// Gives the messages to arrow-json up to the first that is not exactly one object; returns which one that is.
    fn feed(&mut self, messages: &Messages, run: &[usize]) -> Result<Option<usize>, ArrowError> {
        if run.len() > self.capacity {
            self.renew(run.len())?;
        }
        for (fed, at) in run.iter().enumerate() {
            let payload = messages.payload(*at);
            let whole = self
                .objects
                .decode(payload)
                .is_ok_and(|read| read == payload.len())
                && !self.objects.has_partial_record()
                && self.objects.len() == fed + 1;
            if !whole {
                return Ok(Some(fed));
            }
        }
        Ok(None)
    }

    /// Turns what was fed into a batch. If a value is not of its column's type, halves until it is found.
    fn settle(
        &mut self,
        messages: &Messages,
        run: &[usize],
        outcome: &mut Outcome,
    ) -> Result<(), ArrowError> {
        match self.objects.flush() {
            Ok(Some(batch)) if batch.num_rows() == run.len() => outcome.batches.push(batch),
            Ok(batch) => {
                return Err(ArrowError::JsonError(format!(
                    "{} messages became {} rows",
                    run.len(),
                    batch.map_or(0, |b| b.num_rows()),
                )));
            }
            Err(_) => {
                self.renew(run.len())?;
                if let [at] = run {
                    let reason = explain_value(&self.columns, messages.payload(*at))?;
                    outcome.reject(*at, reason);
                } else if !self.sift(messages, run, outcome)? {
                    self.disturbed = true;
                    let (left, right) = run.split_at(run.len() / 2);
                    self.read_run(messages, left, outcome)?;
                    self.read_run(messages, right, outcome)?;
                }
            }
        }
        Ok(())
    }

    /// Reads a run that has a bad value once more with bad values as nulls: only a message with a null somewhere can
    /// be a bad one, and is read alone. Returns false if that would not pay.
    fn sift(
        &mut self,
        messages: &Messages,
        run: &[usize],
        outcome: &mut Outcome,
    ) -> Result<bool, ArrowError> {
        let nested = |f: &FieldRef| f.data_type().is_nested();
        if self.columns.fields().iter().any(nested) {
            return Ok(false);
        }
        let mut lenient = ReaderBuilder::new(self.columns.clone())
            .with_batch_size(run.len())
            .with_ignore_type_conflicts(true)
            .build_decoder()?;
        for at in run {
            lenient.decode(messages.payload(*at))?;
        }
        let Ok(Some(batch)) = lenient.flush() else {
            return Ok(false);
        };
        let nulls = NullBuffer::union_many(batch.columns().iter().map(|c| c.nulls()));
        let suspects: Vec<usize> = match &nulls {
            Some(nulls) => (0..run.len()).filter(|row| nulls.is_null(*row)).collect(),
            None => Vec::new(),
        };
        if suspects.len() > run.len() / 4 {
            return Ok(false);
        }
        let mut good = vec![true; run.len()];
        for row in suspects {
            let payload = messages.payload(run[row]);
            let mut alone = objects(&self.columns, 1)?;
            alone.decode(payload)?;
            if alone.flush().is_err() {
                good[row] = false;
                outcome.reject(run[row], explain_value(&self.columns, payload)?);
            }
        }
        let good = BooleanArray::from(good);
        outcome.batches.push(filter_record_batch(&batch, &good)?);
        Ok(true)
    }

    /// Throws away whatever state a bad message left behind.
    fn renew(&mut self, capacity: usize) -> Result<(), ArrowError> {
        self.objects = objects(&self.columns, capacity)?;
        self.capacity = capacity;
        Ok(())
    }
}

fn objects(columns: &SchemaRef, capacity: usize) -> Result<ObjectDecoder, ArrowError> {
    ReaderBuilder::new(columns.clone())
        .with_batch_size(capacity)
        .build_decoder()
}

/// How many of `rest` make the next run: at most `longest`, and at most the bytes of a run, but one in any case.
fn run_length(messages: &Messages, rest: &[usize], longest: usize) -> usize {
    let mut bytes = 0;
    let fitting = rest
        .iter()
        .take(longest)
        .take_while(|at| {
            bytes += messages.payload(**at).len();
            bytes <= LONGEST_RUN_BYTES
        })
        .count();
    fitting.max(1)
}

/// True if brackets outside strings nest deeper than [`DEEPEST_NESTING`].
fn nests_too_deep(text: &[u8]) -> bool {
    if text.len() <= DEEPEST_NESTING {
        return false;
    }
    let opening = text.iter().filter(|b| matches!(b, b'{' | b'[')).count();
    if opening <= DEEPEST_NESTING {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST_NESTING {
            return true;
        }
    }
    false
}

/// Says why `text`, which arrow-json did not take, is not one JSON object.
fn explain_syntax(text: &[u8]) -> Reason {
    syntax_fault(text).unwrap_or("the message is not valid JSON".into())
}

/// What is wrong with `text` as one JSON value, if a stricter parser knows.
fn syntax_fault(text: &[u8]) -> Option<Reason> {
    use serde::de::IgnoredAny;
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>();
    match values.next() {
        None => Some("the message is empty".into()),
        Some(Err(e)) if e.is_eof() => Some("the JSON object is not complete".into()),
        Some(Err(e)) => Some(format!("the message is not valid JSON: {e}").into()),
        Some(Ok(_)) => values.next().map(|more| match more {
            Ok(_) => "the message holds more than one JSON value".into(),
            Err(_) => "something follows the JSON object".into(),
        }),
    }
}

/// Says which column of `columns` cannot hold its value in `payload`, by reading them one at a time.
fn explain_value(columns: &SchemaRef, payload: &[u8]) -> Result<Reason, ArrowError> {
    for field in columns.fields() {
        let mut alone = objects(&Schema::new(vec![field.as_ref().clone()]).into(), 1)?;
        if alone.decode(payload).and_then(|_| alone.flush()).is_err() {
            let wanted = canonical::sql_name(field.data_type());
            return Ok(format!("the value of `{}` is not a valid {wanted}", field.name()).into());
        }
    }
    Ok(WRONG_TYPE)
}
