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

/** The command that installs a back end of llama.cpp which does not come with the package. */
export function gpuCommand(backend: 'cuda' | 'vulkan'): string {
  return `npm run gpu:${backend}`
}

/** JSON that shows control characters as it writes them itself: by their number. */
export function escapedJson(json: string): string {
  return json.replace(CONTROL, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
