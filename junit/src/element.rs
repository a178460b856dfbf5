//! Start tags and their attributes.

use std::time::Duration;

use quick_xml::encoding::EncodingError;
use quick_xml::events::BytesStart;
use quick_xml::events::attributes::Attribute;

use crate::text;

pub(crate) fn element(name: &'static str) -> BytesStart<'static> {
    let mut content = String::with_capacity(256);
    content.push_str(name);
    BytesStart::from_content(content, name.len())
}

/// Takes over an attribute of junit-report's, which escapes markup but leaves line ends and tabs as they are.
pub(crate) fn copy(
    start: &mut BytesStart<'_>,
    attribute: &Attribute<'_>,
) -> Result<(), quick_xml::Error> {
    let value = str::from_utf8(&attribute.value).map_err(EncodingError::from)?;
    push(start, attribute.key.as_ref(), &text::refer_to_spaces(value));
    Ok(())
}

pub(crate) fn set(start: &mut BytesStart<'_>, key: &'static str, raw: &str) {
    push(
        start,
        key.as_bytes(),
        &text::escape_attribute(&text::clean(raw)),
    );
}

pub(crate) fn set_number(start: &mut BytesStart<'_>, key: &'static str, number: impl ToString) {
    push(start, key.as_bytes(), &number.to_string());
}

pub(crate) fn set_time(start: &mut BytesStart<'_>, duration: Duration) {
    push(start, b"time", &text::seconds(duration));
}

fn push(start: &mut BytesStart<'_>, key: &[u8], escaped: &str) {
    start.push_attribute((key, escaped.as_bytes()));
}
