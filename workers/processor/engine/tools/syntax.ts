/** How a model writes calls of tools: `open call (between call)* close`, each call `prefix name middle arguments suffix`. */
export interface CallSyntax {
  open: string
  prefix: string
  /** Between a tool's name and its arguments, which are a JSON object. */
  middle: string
  suffix: string
  /** Absent: one call in an answer. */
  between?: string
  close: string
}

/** Stands for an id that the model makes up: letters and digits. */
export const ID_SIGN = '\u0000'

/**
 * For chat templates that know no tools. It is what the Hermes and Qwen models were trained on, so that others have
 * likely seen it as well.
 */
export const GENERIC_SYNTAX: CallSyntax = {
  open: '',
  prefix: '<tool_call>\n{"name": "',
  middle: '", "arguments": ',
  suffix: '}\n</tool_call>',
  between: '\n',
  close: '',
}

/** A tag such as <tool_call>, <function= or [TOOL_CALLS]: what no one writes by chance. */
const MARK = /^\s*(?:<[^\s<>{}"]{2,}>?|\[\w{3,}\])/

/** What a call begins with that nothing else does; undefined where that is plain JSON, for example. */
export function markOf({ open, prefix }: CallSyntax): string | undefined {
  return MARK.exec(open + prefix)?.[0]
}

const BLANK = /\s/
const ID_PART = /[a-zA-Z0-9_-]/

/**
 * Compares text with a piece of syntax. White space counts for nothing: models are free with it.
 * @param from where in the text the piece should begin
 * @returns where it ends; 'partial' when the text ends before the piece does; 'no' when they differ
 */
export function matchLoosely(text: string, from: number, piece: string): number | 'partial' | 'no' {
  let at = from
  for (const sign of piece) {
    if (BLANK.test(sign)) continue
    while (at < text.length && BLANK.test(text.charAt(at))) at++
    if (at >= text.length) return 'partial'
    if (sign === ID_SIGN) {
      const began = at
      while (at < text.length && ID_PART.test(text.charAt(at))) at++
      if (at >= text.length) return 'partial'
      if (at === began) return 'no'
    } else if (text[at] === sign) at++
    else return 'no'
  }
  return at
}

/** Models mix the two names up, whichever their template uses. */
export function middles({ middle }: CallSyntax): string[] {
  const other = middle.includes('"arguments"')
    ? middle.replace('"arguments"', '"parameters"')
    : middle.replace('"parameters"', '"arguments"')
  return other === middle ? [middle] : [middle, other]
}
