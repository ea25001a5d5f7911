//! What is asked of the values of a column.

use bytes::BytesMut;

/// The values of a column. A row whose value is NULL is never asked for.
pub(in crate::postgres) trait EncodedValues: Send + Sync {
    fn text(&self, row: usize, out: &mut BytesMut);

    /// Errors: a sentence for a value that the format cannot hold.
    fn binary(&self, row: usize, out: &mut BytesMut) -> Result<(), String>;

    /// As HTTP has the value within a list or a struct.
    fn json(&self, row: usize, out: &mut BytesMut);
}
