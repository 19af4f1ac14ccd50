//! All scenes in one repository: no damage reaches beyond its own scene.

use crate::scene::play;
use crate::{attributes, damage, frames, names, shapes, sizes, trees};

#[tokio::test]
async fn everything_at_once() {
    let scenes = [
        names::SCENES,
        sizes::SCENES,
        frames::SCENES,
        trees::SCENES,
        attributes::SCENES,
        damage::SCENES,
        shapes::SCENES,
    ];
    play(&scenes.concat()).await;
}
