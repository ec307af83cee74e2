//! The two macros by which topics declare their bodies: structs and enums whose names on the wire are in kebab case, with their schema.

/// Returns whether a field may be left out.
pub(crate) fn is_absent<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Declares bodies of requests and replies alike.
macro_rules! bodies {
    ($($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $field_doc:literal])+ $field:ident: $type:ty $(= $default:ident)?,)* })+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
            #[serde(rename_all = "kebab-case", deny_unknown_fields)]
            pub struct $name {
                $($(#[doc = $field_doc])+ $(#[serde($default, skip_serializing_if = "crate::topic::declare::is_absent")])? pub $field: $type,)*
            }
        )+
    };
}
pub(crate) use bodies;

/// Declares enums whose names on the wire are in kebab case.
macro_rules! words {
    ($($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $word_doc:literal])+ $word:ident = $text:literal,)+ })+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
            pub enum $name {
                $($(#[doc = $word_doc])+ #[serde(rename = $text)] $word,)+
            }

            impl $name {
                /// Every one.
                pub const ALL: &'static [Self] = &[$(Self::$word),+];

                /// Returns its name on the wire.
                #[must_use]
                pub fn name(self) -> &'static str {
                    match self {
                        $(Self::$word => $text,)+
                    }
                }
            }
        )+
    };
}
pub(crate) use words;
