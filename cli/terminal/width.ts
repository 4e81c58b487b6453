import { eastAsianWidth } from 'get-east-asian-width'

/** Made when it is needed: it takes longer than most commands have. */
let segmenter: Intl.Segmenter | undefined
const ASCII = /^[\x20-\x7e]*$/
/** What takes no cell of its own: combining marks, joiners, the later parts of a Hangul syllable. */
const ZERO = /^[\p{Mn}\p{Me}\p{Cf}\p{Cc}\u1160-\u11ff]$/u
const EMOJI = /\p{Emoji_Presentation}|\ufe0f/u
/** More code points than a character that people see is made of. */
const LONGEST_CHARACTER = 64

/** How many cells of a terminal a text takes. Of line breaks and tabs it knows nothing. */
export function widthOf(text: string): number {
  if (ASCII.test(text)) return text.length
  let cells = 0
  for (const character of charactersOf(text)) cells += characterWidth(character)
  return cells
}

/** The characters of a text as people see them: with their combining marks, and joined ones as one. */
export function charactersOf(text: string): string[] {
  if (ASCII.test(text)) return text.split('')
  segmenter ??= new Intl.Segmenter()
  return Array.from(segmenter.segment(text), ({ segment }) => segment)
}

/** Cells of one of `charactersOf`. */
export function characterWidth(character: string): number {
  if (EMOJI.test(character)) return 2
  let cells = 0
  for (const point of character) if (!ZERO.test(point)) cells += eastAsianWidth(point.codePointAt(0) ?? 0)
  return cells
}

/** Where the character before a place in a text begins. */
export function characterBefore(text: string, place: number): number {
  const last = charactersOf(text.slice(Math.max(0, place - LONGEST_CHARACTER), place)).at(-1)
  return place - (last?.length ?? 0)
}

/** Where the character at a place in a text ends. */
export function characterAfter(text: string, place: number): number {
  const first = charactersOf(text.slice(place, place + LONGEST_CHARACTER))[0]
  return place + (first?.length ?? 0)
}
