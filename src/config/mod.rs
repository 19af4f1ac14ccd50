//! What was typed or configured, become one validated [`Config`].
