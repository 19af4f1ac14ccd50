//! All scenes in one repository: no damage reaches beyond its own scene.

use crate::scene::{Script, play};
use crate::writer::Repository;
use crate::{attributes, damage, frames, names, shapes, sizes, trees};

/// Every scene.
pub fn scenes() -> Vec<fn(&mut Repository) -> Script> {
    [
        names::SCENES,
        sizes::SCENES,
        frames::SCENES,
        trees::SCENES,
        attributes::SCENES,
        damage::SCENES,
        shapes::SCENES,
    ]
    .concat()
}

#[tokio::test]
async fn everything_at_once() {
    play(&scenes()).await;
}
