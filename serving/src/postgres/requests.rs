//! The messages of a client that is known, read from frames.
//!
//! The decoder of pgwire trusts lengths and panics where a message is too short, so its encoders alone are used.

use bytes::{Buf, Bytes};

use super::failure::{Failure, Unanswered};
use super::frames::Frame;
use crate::parameters::MOST;

/// What a name is the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Statement,
    Portal,
}

/// A message.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    Query(String),
    Parse {
        name: String,
        sql: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe {
        target: Target,
        name: String,
    },
    Execute {
        portal: String,
        rows: usize,
    },
    Close {
        target: Target,
        name: String,
    },
    Flush,
    Sync,
    Terminate,
    /// Data for a COPY that the server has refused.
    CopyIn,
}

/// Values for the placeholders of a statement.
#[derive(Debug, PartialEq)]
pub(super) struct Bind {
    pub(super) portal: String,
    pub(super) statement: String,
    pub(super) value_formats: Vec<i16>,
    pub(super) values: Vec<Option<Bytes>>,
    pub(super) result_formats: Vec<i16>,
}

impl Request {
    /// True if an error makes the server skip messages until the next [`Request::Sync`].
    pub(super) fn is_extended(kind: u8) -> bool {
        matches!(kind, b'P' | b'B' | b'D' | b'E' | b'C' | b'H')
    }

    /// Errors: a failure for a body that ends early or is too long, and for text that is not UTF-8; the end of the
    /// connection for an unknown kind, because nobody knows what follows.
    pub(super) fn read(frame: &Frame) -> Result<Self, Unanswered> {
        let mut fields = Fields(frame.body.clone());
        let request = match frame.kind {
            b'Q' => Request::Query(fields.text()?),
            b'P' => {
                let (name, sql) = (fields.text()?, fields.text()?);
                let types = fields.list(4, |fields| fields.0.get_u32())?;
                Request::Parse { name, sql, types }
            }
            b'B' => Request::Bind(fields.bind()?),
            b'D' => Request::Describe { target: fields.target()?, name: fields.text()? },
            b'C' => Request::Close { target: fields.target()?, name: fields.text()? },
            b'E' => {
                let portal = fields.text()?;
                let rows = fields.fixed(4)?.get_i32();
                Request::Execute { portal, rows: usize::try_from(rows).unwrap_or(0) }
            }
            b'H' => Request::Flush,
            b'S' => Request::Sync,
            b'X' => Request::Terminate,
            b'd' | b'c' | b'f' => return Ok(Request::CopyIn),
            b'F' => return Err(Failure::unsupported("function calls are not supported; write SELECT f(…)").into()),
            other => return Err(Failure::protocol(format!("there is no message of the kind {other}")).fatal()),
        };
        match fields.0.is_empty() {
            true => Ok(request),
            false => Err(Failure::protocol("a message is longer than its contents").into()),
        }
    }
}

/// Errors: a failure for more placeholders than a statement may have.
pub(super) fn check_count(count: usize) -> Result<(), Failure> {
    match count <= MOST {
        true => Ok(()),
        false => Err(Failure::new("54023", format!("a statement has at most {MOST} placeholders, not {count}"))),
    }
}

/// The contents of a message, from front to back.
pub(super) struct Fields(pub(super) Bytes);

impl Fields {
    fn short() -> Failure {
        Failure::protocol("a message ends within its contents")
    }

    fn fixed(&mut self, bytes: usize) -> Result<Bytes, Failure> {
        if self.0.len() < bytes { Err(Self::short()) } else { Ok(self.0.split_to(bytes)) }
    }

    /// A text that ends with a zero.
    pub(super) fn text(&mut self) -> Result<String, Failure> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(Self::short)?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        match std::str::from_utf8(&text) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(Failure::new("22021", format!("a text is not UTF-8: {error}"))),
        }
    }

    fn target(&mut self) -> Result<Target, Failure> {
        match self.fixed(1)?[0] {
            b'S' => Ok(Target::Statement),
            b'P' => Ok(Target::Portal),
            other => Err(Failure::protocol(format!("{other} names neither a statement nor a portal"))),
        }
    }

    fn list<T>(&mut self, width: usize, next: impl Fn(&mut Self) -> T) -> Result<Vec<T>, Failure> {
        let count = usize::from(self.fixed(2)?.get_u16());
        if self.0.len() < count * width {
            return Err(Self::short());
        }
        Ok((0..count).map(|_| next(self)).collect())
    }

    fn bind(&mut self) -> Result<Bind, Failure> {
        let (portal, statement) = (self.text()?, self.text()?);
        let value_formats = self.list(2, |fields| fields.0.get_i16())?;
        let count = usize::from(self.fixed(2)?.get_u16());
        check_count(count)?;
        // Each value has at least its length, so a count that is too high fails early.
        let mut values = Vec::new();
        for _ in 0..count {
            let length = self.fixed(4)?.get_i32();
            values.push(match usize::try_from(length) {
                Ok(length) => Some(self.fixed(length)?),
                Err(_) => None,
            });
        }
        let result_formats = self.list(2, |fields| fields.0.get_i16())?;
        Ok(Bind { portal, statement, value_formats, values, result_formats })
    }
}
