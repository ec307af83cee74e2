//! What an operation is, and the macro by which a topic declares its own: one line makes the request's variant, its decoding, its
//! right and its place in the documents.

use schemars::{Schema, SchemaGenerator};

use crate::error::{Error, Fault};
use crate::permission::{Reach, Right};

/// How an operation is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By the server itself, at once.
    Own,
    /// By a provider that reads or writes a store: the reply is the answer (004-17).
    Quick,
    /// By a provider that must ask somebody else: a pending reply comes first (004-18).
    Slow,
}

/// One service of a topic.
#[derive(Debug)]
pub struct Operation {
    /// Its topic.
    pub topic: &'static str,
    /// Its name, in the header `message`.
    pub message: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// How it is served.
    pub mode: Mode,
    /// How far a user may use it where nothing else is said.
    pub user: Reach,
    /// Schema of the request's body.
    pub request: fn(&mut SchemaGenerator) -> Schema,
    /// Schema of the reply's body.
    pub reply: fn(&mut SchemaGenerator) -> Schema,
}

impl Operation {
    /// Returns the right that it needs.
    #[must_use]
    pub fn right(&self) -> Right<'static> {
        Right { topic: self.topic, message: self.message, user: self.user }
    }
}

/// Refuses a message that the topic does not have.
pub(crate) fn unknown_message(operations: &[Operation], message: &str) -> Error {
    let topic = operations.first().map_or("", |operation| operation.topic);
    let error =
        Error { header: Some("message".into()), ..Error::new(Fault::UnknownMessage, format!("topic {topic} has no message {message}")) };
    error.accepting(operations.iter().map(|operation| operation.message))
}

/// Declares the operations of a topic: `"message" Variant(Request) -> Reply, Mode, Reach`.
macro_rules! operations {
    ($topic:literal; $($(#[doc = $doc:literal])+ $message:literal $variant:ident($request:ty) -> $reply:ty, $mode:ident, $reach:ident;)+) => {
        /// A request of this topic.
        #[derive(Debug)]
        pub enum Request {
            $($(#[doc = $doc])+ $variant(Box<$request>),)+
        }

        /// What this topic can do.
        pub static OPERATIONS: &[$crate::topic::operation::Operation] = &[
            $($crate::topic::operation::Operation {
                topic: $topic,
                message: $message,
                doc: concat!($($doc),+),
                mode: $crate::topic::operation::Mode::$mode,
                user: $crate::permission::Reach::$reach,
                request: |generator| generator.subschema_for::<$request>(),
                reply: |generator| generator.subschema_for::<$reply>(),
            },)+
        ];

        impl Request {
            /// Reads the request of an operation.
            ///
            /// # Errors
            ///
            /// `unknown-message`, or `bad-message` naming the field.
            pub(crate) fn decode(message: &str, body: serde_json::Value) -> Result<Self, $crate::error::Error> {
                match message {
                    $($message => $crate::topic::strict::decode(body).map(|request| Self::$variant(Box::new(request))),)+
                    _ => Err($crate::topic::operation::unknown_message(OPERATIONS, message)),
                }
            }

            /// Returns the right that the request needs.
            #[allow(dead_code, reason = "topics that the server serves itself decide before they decode")]
            pub(crate) fn right(&self) -> $crate::permission::Right<'static> {
                match self {
                    $(Self::$variant(_) => $crate::permission::Right {
                        topic: $topic,
                        message: $message,
                        user: $crate::permission::Reach::$reach,
                    },)+
                }
            }
        }
    };
}
pub(crate) use operations;
