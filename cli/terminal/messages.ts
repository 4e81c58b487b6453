const QUOTE = '"""'

/**
 * What a message of several lines goes on from: a backslash at the end of a line, or `"""` at the beginning that no other
 * closes.
 * @returns the text with the line break that follows; undefined where the message is whole
 */
export function continued(text: string): string | undefined {
  if (text.trimStart().startsWith(QUOTE)) return quotesIn(text) % 2 === 1 ? `${text}\n` : undefined
  return text.endsWith('\\') ? `${text.slice(0, -1)}\n` : undefined
}

/** A message without the `"""` around it and the space at its ends. */
export function messageText(typed: string): string {
  const text = typed.trim()
  if (!text.startsWith(QUOTE)) return text
  const isClosed = text.length >= 2 * QUOTE.length && text.endsWith(QUOTE)
  if (quotesIn(text) > (isClosed ? 2 : 1)) return text
  return text.slice(QUOTE.length, isClosed ? -QUOTE.length : undefined).trim()
}

/** Messages of the lines of a pipe or file. What is open at their end is a message, too. */
export async function* messagesOf(lines: AsyncIterable<string>): AsyncGenerator<string> {
  let text = ''
  for await (const line of lines) {
    text += line
    const more = continued(text)
    if (more === undefined) {
      yield messageText(text)
      text = ''
    } else {
      text = more
    }
  }
  if (text !== '') yield messageText(text)
}

function quotesIn(text: string): number {
  return text.split(QUOTE).length - 1
}
