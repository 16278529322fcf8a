//! "Did you mean …": the known word that a mistyped one is closest to.

/// Largest edit distance at which a word is still taken for a slip.
const DISTANCE_MAX: usize = 3;

/// The word of `known` that `typed` probably meant, whatever its case; `None` when nothing is near.
pub fn suggestion<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let typed = typed.to_ascii_lowercase();
    let distance = |word: &str| strsim::damerau_levenshtein(&typed, &word.to_ascii_lowercase());
    // Half of a short word may not change, or everything would be near to it.
    known
        .iter()
        .map(|word| (distance(word), *word))
        .filter(|(distance, word)| *distance <= DISTANCE_MAX && *distance * 2 <= word.len().max(2))
        .min()
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["RUN", "COPY", "ENTRYPOINT"];
        assert_eq!(suggestion("RUNN", &known), Some("RUN"));
        assert_eq!(suggestion("entrypiont", &known), Some("ENTRYPOINT"));
        assert_eq!(suggestion("X", &known), None);
    }
}
