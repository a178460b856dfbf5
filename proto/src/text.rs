//! The bound of a test's texts, the same at both ends of the wire.

/// No text of a test is kept beyond this, in bytes: an output, a detail, the value of a property.
pub const TEXT: usize = 1 << 20;
/// Nor the line that says what went wrong.
pub const MESSAGE: usize = 16 << 10;

/// The text, with its middle left out and marked where it is longer than `limit` bytes: what matters is at either end.
pub fn cut(text: String, limit: usize) -> String {
    // What is marked already is a little longer.
    const MARK: usize = 128;
    if text.len() <= limit + MARK {
        return text;
    }
    let head = floor(&text, limit / 2);
    let mut tail = text.len() - limit / 2;
    while !text.is_char_boundary(tail) {
        tail += 1;
    }
    let left_out = tail - head;
    format!(
        "{}\n[... {left_out} bytes left out by Evenkeel ...]\n{}",
        &text[..head],
        &text[tail..]
    )
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_both_ends_and_says_what_is_missing() {
        assert_eq!(cut("short".to_owned(), 100), "short");
        let long = format!("begin{}end", "ä".repeat(5000));
        let kept = cut(long.clone(), 1000);
        assert!(kept.starts_with("begin") && kept.ends_with("end"));
        assert!(kept.contains("bytes left out by Evenkeel"));
        assert!(kept.len() < 1100);
        assert_eq!(cut(kept.clone(), 1000), kept, "once is enough");
    }
}
