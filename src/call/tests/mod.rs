//! Calls in virtual time: a switch, scripted phones, a list instead of media ports.

mod conference;
mod graph;
mod hold;
mod model;
mod moving;
mod orders;
mod random;
mod ringing;
mod scene;
mod talking;
mod transfer;
