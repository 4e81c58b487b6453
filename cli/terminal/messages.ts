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
  // What came is asked line by line: of a long message not all of it for each of its lines.
  let text: string[] = []
  let isQuoted = false
  let isOpen = false
  for await (const line of lines) {
    isQuoted ||= line.trimStart().startsWith(QUOTE) && text.every((one) => one.trim() === '')
    if (isQuoted && quotesIn(line) % 2 === 1) isOpen = !isOpen
    const goesOn = isQuoted ? isOpen : line.endsWith('\\')
    text.push(goesOn && !isQuoted ? line.slice(0, -1) : line)
    if (goesOn) continue
    yield messageText(text.join('\n'))
    text = []
    isQuoted = false
  }
  if (text.length > 0) yield messageText(text.join('\n'))
}

function quotesIn(text: string): number {
  return text.split(QUOTE).length - 1
}
