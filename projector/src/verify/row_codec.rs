//! Rows as bytes: what is compared, and what buckets keep.

use read_model::{DerivedRow, DerivedTable};

/// A row in two parts: two rows with the same key stand for the same thing, and are equal if their values are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EncodedRow {
    pub(super) key: Box<[u8]>,
    pub(super) values: Box<[u8]>,
}

impl EncodedRow {
    /// Encodes a row. The key has the table and the values of the primary key.
    pub(super) fn new(row: &DerivedRow) -> Self {
        let (key_values, values) = row.values.split_at(row.table.key_length());
        let table = DerivedTable::ALL.iter().position(|table| *table == row.table);
        let mut key = vec![table.and_then(|index| u8::try_from(index).ok()).unwrap_or(u8::MAX)];
        let mut rest = Vec::new();
        write(key_values, &mut key);
        write(values, &mut rest);
        Self { key: key.into(), values: rest.into() }
    }

    /// The row as one entry of a bucket.
    pub(super) fn to_entry(&self) -> Vec<u8> {
        [&(self.key.len() as u64).to_le_bytes(), &*self.key, &*self.values].concat()
    }
}

/// The key and the values of an entry. None if the entry is no row.
pub(super) fn parts_of(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = entry.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}

/// Decodes the table and the values of a key, and the other values.
pub(super) fn decode(key: &[u8], values: &[u8]) -> Option<DerivedRow> {
    let (index, key_values) = key.split_first()?;
    let table = *DerivedTable::ALL.get(usize::from(*index))?;
    let values = read(key_values).chain(read(values)).collect();
    Some(DerivedRow { table, values })
}

fn write(values: &[Option<String>], bytes: &mut Vec<u8>) {
    for value in values {
        // One more than the length; 0 for NULL.
        let length = value.as_ref().map_or(0, |text| text.len() as u64 + 1);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(value.as_deref().unwrap_or_default().as_bytes());
    }
}

fn read(mut bytes: &[u8]) -> impl Iterator<Item = Option<String>> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let Some(length) = usize::try_from(u64::from_le_bytes(*length)).ok()?.checked_sub(1) else {
            bytes = rest;
            return Some(None);
        };
        let (text, rest) = rest.split_at_checked(length)?;
        bytes = rest;
        Some(Some(String::from_utf8_lossy(text).into_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back_as_it_was_and_null_is_no_empty_text() {
        let text = |text: &str| Some(text.to_owned());
        let values = vec![text("c"), text("m"), text("0"), text(""), None, text("[\"ü\"]")];
        let row = DerivedRow { table: DerivedTable::Reactions, values };
        let entry = EncodedRow::new(&row).to_entry();
        let (key, values) = parts_of(&entry).unwrap();
        assert_eq!(decode(key, values), Some(row));
    }
}
