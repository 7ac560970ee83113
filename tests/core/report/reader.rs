//! Readers of what other programs read, no more than the tests need: they follow the formats'
//! descriptions, not our writers. Both stop at the first byte that is not right.

use std::collections::BTreeMap;

use serde_json::Value;

/// A field of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    Integer(u64),
    Double(f64),
    Float(f32),
    Bytes(Vec<u8>),
}

/// The fields of a message in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Message(Vec<(u64, Field)>);

impl Message {
    pub fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes)?;
            let field = match key & 7 {
                0 => Field::Integer(varint(&mut bytes)?),
                1 => Field::Double(f64::from_le_bytes(take(&mut bytes)?)),
                2 => {
                    let length = varint(&mut bytes)? as usize;
                    let (data, rest) = bytes.split_at_checked(length)?;
                    bytes = rest;
                    Field::Bytes(data.to_vec())
                }
                5 => Field::Float(f32::from_le_bytes(take(&mut bytes)?)),
                _ => return None,
            };
            fields.push((key >> 3, field));
        }
        Some(Self(fields))
    }

    pub fn has(&self, field: u64) -> bool {
        self.0.iter().any(|(number, _)| *number == field)
    }

    pub fn integer(&self, field: u64) -> Option<u64> {
        self.0.iter().find_map(|(number, value)| match value {
            Field::Integer(value) if *number == field => Some(*value),
            _ => None,
        })
    }

    pub fn double(&self, field: u64) -> Option<f64> {
        self.0.iter().find_map(|(number, value)| match value {
            Field::Double(value) if *number == field => Some(*value),
            _ => None,
        })
    }

    pub fn float(&self, field: u64) -> Option<f32> {
        self.0.iter().find_map(|(number, value)| match value {
            Field::Float(value) if *number == field => Some(*value),
            _ => None,
        })
    }

    pub fn text(&self, field: u64) -> Option<String> {
        let bytes = self.bytes(field).next()?;
        String::from_utf8(bytes.to_vec()).ok()
    }

    pub fn messages(&self, field: u64) -> Vec<Message> {
        self.bytes(field).filter_map(Message::parse).collect()
    }

    pub fn message(&self, field: u64) -> Option<Message> {
        self.messages(field).into_iter().next()
    }

    fn bytes(&self, field: u64) -> impl Iterator<Item = &[u8]> {
        self.0
            .iter()
            .filter_map(move |(number, value)| match value {
                Field::Bytes(bytes) if *number == field => Some(bytes.as_slice()),
                _ => None,
            })
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let [byte] = take(bytes)?;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

/// The messages of a TensorBoard event file.
pub fn event_file(mut bytes: &[u8]) -> Vec<Message> {
    let mut events = Vec::new();
    while let Some(event) = framed(&mut bytes).and_then(|data| Message::parse(&data)) {
        events.push(event);
    }
    events
}

fn framed(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let mask = |data: &[u8]| {
        crc32c::crc32c(data)
            .rotate_right(15)
            .wrapping_add(0xa282_ead8)
    };
    let length: [u8; 8] = take(bytes)?;
    if u32::from_le_bytes(take(bytes)?) != mask(&length) {
        return None;
    }
    let (data, rest) = bytes.split_at_checked(u64::from_le_bytes(length) as usize)?;
    *bytes = rest;
    (u32::from_le_bytes(take(bytes)?) == mask(data)).then(|| data.to_vec())
}

/// The `Record`s of a `.wandb` file.
pub fn wandb_file(bytes: &[u8]) -> Vec<Message> {
    let mut records = Vec::new();
    if !bytes.starts_with(b":W&B\xe1\xbe\x00") {
        return records;
    }
    let mut at = 7;
    while let Some(record) = pieces(bytes, &mut at).and_then(|data| Message::parse(&data)) {
        records.push(record);
    }
    records
}

fn pieces(bytes: &[u8], at: &mut usize) -> Option<Vec<u8>> {
    let mut record = Vec::new();
    loop {
        let room = 32768 - *at % 32768;
        if room < 7 {
            *at += room;
        }
        let mut head = bytes.get(*at..*at + 7)?;
        let checksum = u32::from_le_bytes(take(&mut head)?);
        let length = usize::from(u16::from_le_bytes(take(&mut head)?));
        let [kind] = take(&mut head)?;
        let data = bytes.get(*at + 7..*at + 7 + length)?;
        *at += 7 + length;
        if crc32fast::hash(&[&[kind], data].concat()) != checksum {
            return None;
        }
        record.extend_from_slice(data);
        // A whole record, or the last piece of one.
        if kind == 1 || kind == 4 {
            return Some(record);
        }
    }
}

/// Every scalar of an event file: tag, step, value.
pub fn scalars(events: &[Message]) -> Vec<(String, u64, f32)> {
    let mut found = Vec::new();
    for event in events {
        let step = event.integer(2).unwrap_or_default();
        for value in event.message(5).iter().flat_map(|s| s.messages(1)) {
            found.extend(
                value
                    .float(2)
                    .map(|number| (value.text(1).unwrap_or_default(), step, number)),
            );
        }
    }
    found
}

/// Every row of the history of an offline run.
pub fn history(records: &[Message]) -> Vec<BTreeMap<String, Value>> {
    records
        .iter()
        .filter_map(|record| record.message(2))
        .map(|row| {
            let items = row.messages(1).into_iter();
            items
                .filter_map(|item| {
                    let value = serde_json::from_str(&item.text(16)?).ok()?;
                    Some((item.text(2)?, value))
                })
                .collect()
        })
        .collect()
}
