//! Pages: a token is opaque, bound to what was asked, and good after a restart.

use crate::error::Error;
use crate::random;

const USUAL: usize = 100;
const MOST: usize = 1000;

/// How many items a page has.
pub fn size(asked: i32) -> Result<usize, Error> {
    match usize::try_from(asked) {
        Ok(0) => Ok(USUAL),
        Ok(size) => Ok(size.min(MOST)),
        Err(_) => Err(Error::invalid("page_size", "is less than nothing")),
    }
}

/// What a page token stands for: where the last page ended.
pub fn read(token: &str, asked: &[&str]) -> Result<Option<String>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let (place, bound) = token.split_once('.').ok_or_else(foreign)?;
    if bound != binding(asked) {
        return Err(foreign());
    }
    let bytes: Option<Vec<u8>> = place
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).map(Some).ok_or_else(foreign)
}

pub fn write(place: &str, asked: &[&str]) -> String {
    format!("{}.{}", random::hex(place.as_bytes()), binding(asked))
}

fn binding(asked: &[&str]) -> String {
    random::hex(&random::hash(asked.join("\0").as_bytes())[..6])
}

fn foreign() -> Error {
    Error::invalid("page_token", "is not of this request: begin with an empty one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_what_was_asked_and_nothing_else() {
        let token = write("place", &["a", "b"]);
        assert_eq!(read(&token, &["a", "b"]).unwrap(), Some("place".into()));
        assert!(read(&token, &["a", "c"]).is_err());
        assert!(read("zz", &["a"]).is_err());
        assert_eq!(read("", &["a"]).unwrap(), None);
        assert!(size(-1).is_err());
        assert_eq!(size(5000).unwrap(), 1000);
    }
}
