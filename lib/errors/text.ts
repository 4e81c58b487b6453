/**
 * Control characters but newline and tab, and what turns the direction of text or ends a line in Unicode: in a terminal
 * they do more than show text.
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g

/** Text of a model or of another machine, safe to show. Newlines and tabs stay. */
export function printable(text: string): string {
  return text.replace(CONTROL, '')
}

/** The same as one line: nothing of it can pass for a line of its own. */
export function oneLine(text: string): string {
  return printable(text.replace(/\s*[\r\n]+\s*/g, ' ').replaceAll('\t', ' '))
}

/** The command that brings the engine with one of its back ends, none of which comes with the package. */
export function engineCommand(backEnd: 'cpu' | 'cuda' | 'vulkan'): string {
  return `infermesh gpu install ${backEnd}`
}

/** When to try again, for people: never sooner than in `ms` milliseconds. */
export function againIn(ms: number): string {
  return `Try again in ${waitText(ms)}`
}

/** At most so many of the smaller unit are told, before the next one is. */
const MOST_OF_UNIT = 120
const UNITS = [
  [1000, 's'],
  [60_000, 'min'],
  [3_600_000, 'h'],
] as const

function waitText(ms: number): string {
  for (const [unitMs, unit] of UNITS) {
    const count = Math.max(1, Math.ceil(ms / unitMs))
    if (count <= MOST_OF_UNIT) return `${count} ${unit}`
  }
  return `${Math.ceil(ms / 86_400_000)} days`
}

/** JSON that shows control characters as it writes them itself: by their number. */
export function escapedJson(json: string): string {
  return json.replace(CONTROL, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
