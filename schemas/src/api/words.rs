//! Enums that are words on the wire. Each word is written once.
//!
//! Invariant: an unknown word is read as `Unknown`, so a client works with a newer server.

/// Declares such an enum with its words.
macro_rules! words {
    (
        $(#[$about:meta])*
        pub enum $name:ident { $($(#[$about_word:meta])* $variant:ident = $word:literal,)+ }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$about_word])* #[serde(rename = $word)] $variant,)+
            /// A word of a newer version. Servers never send `unknown` itself.
            #[serde(rename = "unknown", other)]
            Unknown,
        }

        impl $name {
            /// Every word of this version.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Unknown => "unknown",
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

pub(crate) use words;
