//! Text on its way into XML 1.0, such that a parser gives it back unchanged.

use std::borrow::Cow;
use std::time::Duration;

/// Replaces each character that XML 1.0 forbids, as the crate's documentation says.
pub(crate) fn clean(raw: &str) -> Cow<'_, str> {
    // U+FFFE and U+FFFF start with the byte EF; so do allowed characters, hence the second look.
    let suspect =
        |byte: u8| byte == 0xEF || (byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r'));
    if raw.bytes().any(suspect) && raw.chars().any(|c| allowed(c) != c) {
        Cow::Owned(raw.chars().map(allowed).collect())
    } else {
        Cow::Borrowed(raw)
    }
}

fn allowed(c: char) -> char {
    match c {
        '\t' | '\n' | '\r' => c,
        '\0'..='\u{1f}' => {
            char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        _ => c,
    }
}

/// Clean text that may stand in a CDATA section: each `]]>` is cut in two, in two sections.
pub(crate) fn cdata(raw: &str) -> Cow<'_, str> {
    let clean = clean(raw);
    if clean.contains("]]>") {
        Cow::Owned(clean.replace("]]>", "]]]]><![CDATA[>"))
    } else {
        clean
    }
}

/// Escapes clean text for the inside of an element. A bare carriage return would be read as a line feed.
pub(crate) fn escape_content(clean: &str) -> Cow<'_, str> {
    substitute(clean, |byte| match byte {
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        b'&' => Some("&amp;"),
        b'\r' => Some("&#13;"),
        _ => None,
    })
}

/// Escapes clean text for an attribute between double quotes.
pub(crate) fn escape_attribute(clean: &str) -> Cow<'_, str> {
    substitute(clean, |byte| match byte {
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        b'&' => Some("&amp;"),
        b'"' => Some("&quot;"),
        byte => space_reference(byte),
    })
}

/// Gives an escaped attribute the references without which a parser reads its tabs and line ends as spaces.
pub(crate) fn refer_to_spaces(escaped: &str) -> Cow<'_, str> {
    substitute(escaped, space_reference)
}

fn space_reference(byte: u8) -> Option<&'static str> {
    match byte {
        b'\t' => Some("&#9;"),
        b'\n' => Some("&#10;"),
        b'\r' => Some("&#13;"),
        _ => None,
    }
}

/// Puts references in the place of the ASCII characters that have one.
fn substitute(text: &str, reference: impl Fn(u8) -> Option<&'static str>) -> Cow<'_, str> {
    let mut result = String::new();
    let mut copied = 0;
    for (position, byte) in text.bytes().enumerate() {
        if let Some(reference) = reference(byte) {
            result.push_str(&text[copied..position]);
            result.push_str(reference);
            copied = position + 1;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    result.push_str(&text[copied..]);
    Cow::Owned(result)
}

/// Seconds with six decimals, rounded to the nearest microsecond.
pub(crate) fn seconds(duration: Duration) -> String {
    let mut whole = u128::from(duration.as_secs());
    let mut micros = (duration.subsec_nanos() + 500) / 1_000;
    if micros == 1_000_000 {
        whole += 1;
        micros = 0;
    }
    format!("{whole}.{micros:06}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_characters_turn_into_pictures() {
        assert_eq!(clean("\u{1b}[31m\0\u{1f}"), "␛[31m␀␟");
        assert_eq!(clean("\u{fffe}\u{ffff}"), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn allowed_characters_are_not_copied() {
        let text =
            "\t\r\n\u{7f}\u{85}\u{9f}\u{2028}\u{fefe}\u{feff}\u{ff21}\u{fffd}\u{1fffe}\u{10ffff}";
        assert!(matches!(clean(text), Cow::Borrowed(same) if same == text));
    }

    #[test]
    fn cdata_never_ends_early() {
        assert_eq!(cdata("]]>]]>"), "]]]]><![CDATA[>]]]]><![CDATA[>");
        assert_eq!(cdata("]]]>"), "]]]]]><![CDATA[>");
    }

    #[test]
    fn seconds_round_and_carry() {
        assert_eq!(seconds(Duration::ZERO), "0.000000");
        assert_eq!(seconds(Duration::from_nanos(1_499)), "0.000001");
        assert_eq!(seconds(Duration::from_nanos(1_999_999_500)), "2.000000");
        assert_eq!(seconds(Duration::MAX), "18446744073709551616.000000");
    }
}
