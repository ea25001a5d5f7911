//! Object container files of Avro: a schema, and blocks of values that it wrote. Source: the specification of Avro
//! 1.12, "Object Container Files".
//!
//! A value is read as a message of the stream would be that this schema wrote, so loads and messages follow the same
//! rules: fields and columns meet by name, numbers are widened, unions give what their branch gives.
//!
//! Invariant: a block whose length, number of values or sync marker is wrong ends the file with an error; memory is
//! bounded by one block.

use std::io::{BufReader, ErrorKind, Read};

use flate2::read::DeflateDecoder;

use super::format::FileRows;
use super::rows::RowReader;
use crate::Result;
use crate::decode::avro::ValueRun;

const MAGIC: [u8; 4] = *b"Obj\x01";
/// What is read from a file at once.
const CHUNK: usize = 1 << 20;
/// The longest schema, with what else is before the first block.
const LONGEST_HEAD: usize = 16 << 20;
/// The longest block, compressed or not. Writers make blocks of some dozens of KiB.
const LONGEST_BLOCK: usize = 256 << 20;
/// Rows that are decoded together.
const ROWS: usize = 4096;

/// What compresses the blocks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlockCodec {
    Null,
    Deflate,
    Snappy,
    Zstandard,
}

impl BlockCodec {
    /// Errors: the name of a codec that is not read.
    fn parse(name: &[u8]) -> Result<Self, String> {
        match name {
            b"null" | b"" => Ok(Self::Null),
            b"deflate" => Ok(Self::Deflate),
            b"snappy" => Ok(Self::Snappy),
            b"zstandard" => Ok(Self::Zstandard),
            other => {
                let name = String::from_utf8_lossy(other);
                Err(format!("its blocks are compressed by {name}; null, deflate, snappy and zstandard are read"))
            }
        }
    }

    /// Errors: why the block is damaged.
    fn decompress(self, block: Vec<u8>) -> Result<Vec<u8>, String> {
        match self {
            Self::Null => Ok(block),
            Self::Deflate => bounded(DeflateDecoder::new(block.as_slice())),
            Self::Zstandard => bounded(zstd::Decoder::new(block.as_slice()).map_err(|e| e.to_string())?),
            Self::Snappy => {
                let (block, sum) = block.split_last_chunk::<4>().ok_or("it has no checksum")?;
                let length = snap::raw::decompress_len(block).map_err(|e| e.to_string())?;
                if length > LONGEST_BLOCK {
                    return Err(too_long());
                }
                let block = snap::raw::Decoder::new().decompress_vec(block).map_err(|e| e.to_string())?;
                match crc32fast::hash(&block) == u32::from_be_bytes(*sum) {
                    true => Ok(block),
                    false => Err("its checksum is another one".to_owned()),
                }
            }
        }
    }
}

fn too_long() -> String {
    format!("it is longer than {} MiB", LONGEST_BLOCK >> 20)
}

/// Errors: the bytes are damaged, or too many.
fn bounded(bytes: impl Read) -> Result<Vec<u8>, String> {
    let mut block = Vec::new();
    bytes.take(LONGEST_BLOCK as u64 + 1).read_to_end(&mut block).map_err(|e| e.to_string())?;
    if block.len() > LONGEST_BLOCK { Err(too_long()) } else { Ok(block) }
}

/// What is before the first block.
struct FileHead {
    schema: String,
    codec: BlockCodec,
    sync: [u8; 16],
}

/// Reads a file.
///
/// Errors: the file cannot be read, is damaged, or has a row that does not fit.
pub(super) fn read(bytes: impl Read, mut rows: RowReader, pass: &mut dyn FnMut(FileRows) -> bool) -> Result<()> {
    let mut bytes = BufReader::with_capacity(CHUNK, bytes);
    let head = match head(&mut bytes) {
        Ok(head) => head.map_err(|why| rows.bad().refuse(why))?,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return Err(rows.bad().refuse("it ends before its first block"));
        }
        Err(error) => return Err(rows.bad().failed(error)),
    };
    let run = ValueRun::of(&head.schema).map_err(|why| rows.bad().refuse(format!("its schema: {why}")))?;
    if let Some(names) = run.field_names() {
        rows.match_names(&names)?;
    }
    rows.read_avro(&head.schema)?;
    let mut number = 0;
    for at in 1.. {
        let damaged = |why: &str| rows.bad().refuse(format!("block {at} is damaged: {why}"));
        let (count, block) = match block(&mut bytes, &head.sync) {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(found))) => found,
            Ok(Some(Err(why))) => return Err(damaged(&why)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(damaged("the file ends within it")),
            Err(error) => return Err(rows.bad().failed(error)),
        };
        let block = head.codec.decompress(block).map_err(|why| damaged(&why))?;
        for value in run.split(&block, count).map_err(|why| damaged(&why))? {
            number += 1;
            let wants_more = rows.add(number, value);
            if (rows.added() >= ROWS || !wants_more) && !pass(rows.take()?) {
                return Ok(());
            }
            if !wants_more {
                return Ok(());
            }
        }
        if rows.added() > 0 && !pass(rows.take()?) {
            return Ok(());
        }
    }
    Ok(())
}

/// Errors, outside: those of reading; inside: why there is no such file.
fn head(bytes: &mut impl Read) -> std::io::Result<Result<FileHead, String>> {
    let mut magic = [0; 4];
    bytes.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Ok(Err("it is no object container file of Avro".to_owned()));
    }
    let (mut schema, mut codec) = (None, Vec::new());
    let mut left = LONGEST_HEAD;
    loop {
        let Some(count) = long(bytes)? else { return Ok(Err(NO_NUMBER.to_owned())) };
        if count == 0 {
            break;
        }
        // A negative number says that the size of the block follows.
        if count < 0 {
            long(bytes)?;
        }
        for _ in 0..count.unsigned_abs() {
            let long_head = || format!("what is before its first block is longer than {} MiB", LONGEST_HEAD >> 20);
            let Some(key) = string(bytes, &mut left)? else { return Ok(Err(long_head())) };
            let Some(value) = string(bytes, &mut left)? else { return Ok(Err(long_head())) };
            match key.as_slice() {
                b"avro.schema" => schema = Some(value),
                b"avro.codec" => codec = value,
                _ => {}
            }
        }
    }
    let mut sync = [0; 16];
    bytes.read_exact(&mut sync)?;
    let schema = schema.and_then(|schema| String::from_utf8(schema).ok());
    let head = schema.ok_or_else(|| "it has no schema".to_owned());
    Ok(head.and_then(|schema| Ok(FileHead { schema, codec: BlockCodec::parse(&codec)?, sync })))
}

const NO_NUMBER: &str = "a number has more than 64 bits";

/// The number of values in a block and its bytes, or why it is damaged.
type FoundBlock = Result<(usize, Vec<u8>), String>;

/// The number of values in the next block, and its bytes; `None` at the end of the file.
///
/// Errors, outside: those of reading; inside: why the block is damaged.
fn block(bytes: &mut impl Read, sync: &[u8; 16]) -> std::io::Result<Option<FoundBlock>> {
    let mut first = [0];
    if bytes.read(&mut first)? == 0 {
        return Ok(None);
    }
    let mut start = first.as_slice().chain(&mut *bytes);
    let (Some(count), Some(size)) = (long(&mut start)?, long(&mut start)?) else {
        return Ok(Some(Err(NO_NUMBER.to_owned())));
    };
    let (Ok(count), Ok(size)) = (usize::try_from(count), usize::try_from(size)) else {
        return Ok(Some(Err("its size is negative".to_owned())));
    };
    if size > LONGEST_BLOCK {
        return Ok(Some(Err(too_long())));
    }
    let mut block = Vec::new();
    if (&mut *bytes).take(size as u64).read_to_end(&mut block)? < size {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let mut end = [0; 16];
    bytes.read_exact(&mut end)?;
    Ok(Some(if end == *sync { Ok((count, block)) } else { Err("no sync marker is behind it".to_owned()) }))
}

/// A zigzag number; `None` if it has more than 64 bits.
fn long(bytes: &mut impl Read) -> std::io::Result<Option<i64>> {
    let mut number = 0u64;
    for at in 0..10 {
        let mut byte = [0];
        bytes.read_exact(&mut byte)?;
        let bits = u64::from(byte[0] & 0x7f);
        if at == 9 && bits > 1 {
            return Ok(None);
        }
        number |= bits << (7 * at);
        if byte[0] & 0x80 == 0 {
            return Ok(Some((number >> 1).cast_signed() ^ -((number & 1).cast_signed())));
        }
    }
    Ok(None)
}

/// A byte string; `None` if it is longer than what is `left`.
fn string(bytes: &mut impl Read, left: &mut usize) -> std::io::Result<Option<Vec<u8>>> {
    let length = long(bytes)?.and_then(|length| usize::try_from(length).ok());
    let Some(rest) = length.and_then(|length| left.checked_sub(length.saturating_add(1))) else { return Ok(None) };
    *left = rest;
    let mut string = vec![0; length.unwrap_or_default()];
    bytes.read_exact(&mut string)?;
    Ok(Some(string))
}

#[cfg(test)]
mod tests;
