/** What a chat template adds to each message, about. */
const MESSAGE_TOKENS = 4

/** Tokens that texts will need, about; token ids are counted. */
export function estimateTokens(texts: readonly (string | readonly number[])[]): number {
  return texts.reduce(
    (sum, text) => sum + (typeof text === 'string' ? tokensOf(text) + MESSAGE_TOKENS : text.length),
    0,
  )
}

/**
 * Vocabularies are made of much English, some of other scripts and hardly any emoji: a token says about 4 letters and
 * spaces, 2 signs as code has them, one digit, 2 bytes of other scripts, and of what is rarer a byte, its last resort.
 */
function tokensOf(text: string): number {
  let quarters = 0
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit < 0x80) quarters += isDigit(unit) ? 4 : isLetterOrSpace(unit) ? 1 : 2
    else if (unit < 0x800) quarters += 4
    // Half of a pair has 2 bytes of its 4.
    else quarters += isSurrogate(unit) ? 8 : 6
  }
  return Math.ceil(quarters / 4)
}

function isDigit(unit: number): boolean {
  return unit >= 0x30 && unit <= 0x39
}

function isLetterOrSpace(unit: number): boolean {
  const lower = unit | 0x20
  return unit === 0x20 || (lower >= 0x61 && lower <= 0x7a)
}

function isSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdfff
}
