// Which emoji are the same, by the server's rule.

/** The variation selectors: they ask for the text or the emoji form of the character before them. */
const VARIATION_SELECTORS = /[\uFE0E\uFE0F]/g;

/** An emoji without its variation selectors: equal for two emoji that are the same. */
export const emojiKey = (emoji: string): string => emoji.replace(VARIATION_SELECTORS, '');

/** Whether two emoji are the same: `❤` and `❤️` differ only in a variation selector. */
export const isSameEmoji = (a: string, b: string): boolean => emojiKey(a) === emojiKey(b);
