//! Texts that will be cut anyway need not be read to their end.
//!
//! With tokenizers that look no further than a word, the first words of a text give its first
//! tokens. What is cut off must begin with a space, after a sign of ASCII or a letter of an alphabet
//! up to Hebrew: no rule of Unicode or of these tokenizers reaches across.

use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

/// Bytes of text per token that are tried first; English has four or five.
const BYTES_PER_TOKEN: usize = 8;

/// Returns beginnings of `text` that may have more than `limit` tokens, shorter ones first; none
/// where it is not worth it.
pub(super) fn parts(text: &str, limit: usize) -> impl Iterator<Item = &str> {
    let first = limit.saturating_mul(BYTES_PER_TOKEN).max(256);
    let sizes = std::iter::successors(Some(first), |size| size.checked_mul(4));
    sizes.take_while(|size| *size < text.len() / 2).filter_map(|size| before_space(text, size))
}

/// Returns the longest beginning of at most `size` bytes that ends as described above.
pub(super) fn before_space(text: &str, size: usize) -> Option<&str> {
    let ends_word =
        |character: char| character.is_ascii_graphic() || (character < '\u{600}' && character.is_alphabetic());
    let spaces = text.as_bytes().get(..=size)?.iter().enumerate().rev().filter(|(_, byte)| **byte == b' ');
    let mut beginnings = spaces.filter_map(|(end, _)| text.get(..end));
    beginnings.find(|beginning| beginning.chars().next_back().is_some_and(ends_word))
}

/// Whether the tokenizer looks no further than a word.
pub(super) fn is_local(tokenizer: &Tokenizer) -> bool {
    let tokens = tokenizer.get_added_tokens_decoder();
    // A token that is looked up after normalisation may have got spaces by it.
    let is_word =
        |content: &str, normalized: bool| !content.contains(char::is_whitespace) && (content.is_ascii() || !normalized);
    tokenizer.get_normalizer().is_none_or(normalizer_is_local)
        && tokenizer.get_pre_tokenizer().is_some_and(splitter_is_local)
        && tokens.values().all(|token| is_word(&token.content, token.normalized))
}

fn normalizer_is_local(normalizer: &NormalizerWrapper) -> bool {
    use NormalizerWrapper as N;
    match normalizer {
        N::BertNormalizer(_)
        | N::StripAccents(_)
        | N::NFC(_)
        | N::NFD(_)
        | N::NFKC(_)
        | N::NFKD(_)
        | N::Lowercase(_)
        | N::Nmt(_)
        | N::Precompiled(_) => true,
        N::Sequence(all) => all.as_ref().iter().all(normalizer_is_local),
        N::StripNormalizer(_) | N::Replace(_) | N::Prepend(_) | N::ByteLevel(_) => false,
    }
}

fn splitter_is_local(splitter: &PreTokenizerWrapper) -> bool {
    use PreTokenizerWrapper as P;
    match splitter {
        P::BertPreTokenizer(_) | P::Whitespace(_) | P::WhitespaceSplit(_) => true,
        P::ByteLevel(byte_level) => byte_level.use_regex,
        P::Metaspace(metaspace) => metaspace.get_split(),
        // The first one splits at white space, which is enough.
        P::Sequence(all) => all.as_ref().first().is_some_and(splitter_is_local),
        P::Delimiter(_) | P::Split(_) | P::Punctuation(_) | P::Digits(_) | P::UnicodeScripts(_) | P::FixedLength(_) => {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_end_between_a_word_and_a_space() {
        assert_eq!(before_space("one two", 6), Some("one"));
        assert_eq!(before_space("one two three", 7), Some("one two"));
        assert_eq!(before_space("one, two", 7), Some("one,"));
        assert_eq!(before_space("два три", 9), Some("два"));
        assert_eq!(before_space("one  e\u{301} two", 9), Some("one"));
        assert_eq!(before_space("一 二", 5), None);
        assert_eq!(before_space("one", 3), None);
    }

    #[test]
    fn a_text_of_which_most_is_needed_has_no_parts() {
        let text = "word ".repeat(200);
        assert_eq!(parts(&text, 100).count(), 0);
        let lengths: Vec<usize> = parts(&text, 10).map(str::len).collect();
        assert_eq!(lengths, [254]);
    }
}
