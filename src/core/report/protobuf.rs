//! Messages of Protocol Buffers, field by field: the two formats need a dozen fields of them.
//! <https://protobuf.dev/programming-guides/encoding/>

/// Wire types.
const VARINT: u32 = 0;
const FIXED_64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED_32: u32 = 5;

/// The bytes of a message; fields stand in the order they were added in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// A message without fields.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Adds an `int32`, `int64` or `enum`.
    pub(super) fn integer(mut self, field: u32, value: i64) -> Self {
        self.key(field, VARINT);
        // Negative numbers take ten bytes: two's complement of 64 bits.
        self.varint(value as u64);
        self
    }

    /// Adds a `double`.
    pub(super) fn double(mut self, field: u32, value: f64) -> Self {
        self.key(field, FIXED_64);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Adds a `float`.
    pub(super) fn float(mut self, field: u32, value: f32) -> Self {
        self.key(field, FIXED_32);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Adds a `string`.
    pub(super) fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// Adds a message.
    pub(super) fn message(self, field: u32, value: &Message) -> Self {
        self.bytes(field, &value.0)
    }

    /// The message as it is written.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.key(field, LENGTH);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from(field << 3 | wire_type));
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_encoded_as_the_documentation_shows() {
        // `Test1 {a: 150}`, `Test2 {b: "testing"}`, `Test3 {c: Test1 {a: 150}}` of the encoding guide.
        let one = Message::new().integer(1, 150);
        assert_eq!(one.as_bytes(), [0x08, 0x96, 0x01]);
        assert_eq!(
            Message::new().text(2, "testing").as_bytes(),
            [&[0x12, 0x07][..], b"testing"].concat()
        );
        assert_eq!(
            Message::new().message(3, &one).as_bytes(),
            [0x1a, 0x03, 0x08, 0x96, 0x01]
        );
        let negative = Message::new().integer(1, -2);
        assert_eq!(negative.as_bytes().len(), 11);
        assert_eq!(
            Message::new().double(1, 1.0).float(21, 1.0).as_bytes(),
            [
                0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0xad, 0x01, 0, 0, 0x80, 0x3f
            ]
        );
    }
}
