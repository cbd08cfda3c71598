//! Images that are handed to a test program by its environment, as the rules for Bazel do.

use thiserror::Error;

use crate::{ImageSource, ParseSha256Error, env_vars};

/// An image that was not handed over.
#[derive(Debug, Error)]
pub enum HandedError {
    /// The environment does not name it.
    #[error(
        "no image is named {name:?}: {variable} is not set\nhint: under Bazel, name it in `images` of system_test; by hand, set the variable to the image's path"
    )]
    Missing {
        /// The image.
        name: String,
        /// The variable.
        variable: String,
    },
    /// Its SHA-256 is none.
    #[error("cannot understand {variable}")]
    Sha256 {
        /// The variable.
        variable: String,
        /// What is wrong.
        source: ParseSha256Error,
    },
}

/// The image of this name in an environment: its path is in `STEADING_IMAGE_NAME`, and its SHA-256,
/// which is checked, in `STEADING_IMAGE_NAME_SHA256`, if that is set.
///
/// # Errors
///
/// When there is none of this name, or its SHA-256 is none.
pub fn handed_image(
    name: &str,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<ImageSource, HandedError> {
    let path_variable = variable(name);
    let Some(path) = environment(&path_variable).filter(|path| !path.is_empty()) else {
        return Err(HandedError::Missing { name: name.to_owned(), variable: path_variable });
    };
    let image = ImageSource::new(path);
    let variable = format!("{path_variable}{}", env_vars::STEADING_IMAGE_SHA256_SUFFIX);
    match environment(&variable) {
        None => Ok(image),
        Some(text) => match text.trim().parse() {
            Ok(sha256) => Ok(image.sha256(sha256)),
            Err(source) => Err(HandedError::Sha256 { variable, source }),
        },
    }
}

/// The prefix and the name as shells take it (POSIX.1-2017, Base Definitions, 8.1).
fn variable(name: &str) -> String {
    let upper = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    env_vars::STEADING_IMAGE_PREFIX.chars().chain(upper).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sha256;

    #[test]
    fn an_image_is_found_with_its_digest() {
        let digest = Sha256::of("image");
        let environment = |name: &str| match name {
            "STEADING_IMAGE_NODE_2_0" => Some("/i/node.img".to_owned()),
            "STEADING_IMAGE_NODE_2_0_SHA256" => Some(format!("{digest}\n")),
            "STEADING_IMAGE_PLAIN" => Some("plain.img".to_owned()),
            _ => None,
        };
        let image = handed_image("node-2.0", environment).unwrap();
        assert_eq!(image, ImageSource::new("/i/node.img").sha256(digest));
        assert_eq!(handed_image("plain", environment).unwrap(), ImageSource::new("plain.img"));
    }

    #[test]
    fn what_was_not_handed_over_or_wrongly_is_told_with_its_variable() {
        let missing = handed_image("node", |_| None).unwrap_err();
        assert!(missing.to_string().contains("STEADING_IMAGE_NODE is not set"), "{missing}");
        let wrong = handed_image("node", |_| Some("12".to_owned())).unwrap_err();
        assert_eq!(wrong.to_string(), "cannot understand STEADING_IMAGE_NODE_SHA256");
    }
}
