import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { PACKAGE_ROOT } from '../../lib/worker-base/index.js'

/** Pages of the documentation, read as the tests compare them with the code. */

export function readPage(name: string): string {
  return readFileSync(join(PACKAGE_ROOT, 'docs', name), 'utf8')
}

/** What stands below each heading, by its text. A section holds its subsections. */
export function sectionsOf(page: string): Map<string, string> {
  const headings = [...page.matchAll(/^(#+) (.*)$/gm)].map(({ 1: marks = '', 2: title = '', index }) => ({
    depth: marks.length,
    title,
    index,
  }))
  return new Map(
    headings.map(({ depth, title, index }, i) => {
      const next = headings.slice(i + 1).find((later) => later.depth <= depth)
      return [title, page.slice(index, next?.index)]
    }),
  )
}

/** The cells of a section's tables, row by row, without their heads. @throws Error where there is no such section */
export function rowsOf(sections: Map<string, string>, title: string): string[][] {
  const section = sections.get(title)
  if (section === undefined) throw new Error(`The page has no section ${JSON.stringify(title)}`)
  return section
    .split('\n')
    .filter((line, i, lines) => line.startsWith('|') && !isHead(line, lines[i + 1]))
    .map((line) => line.replace(/^\| ?| ?\|$/g, '').split(/ ?(?<!\\)\| ?/))
}

/** The names in backticks of a cell. */
export function namesIn(cell = ''): string[] {
  return [...cell.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name)
}

function isHead(line: string, next: string | undefined): boolean {
  return /^\|[-|: ]+\|$/.test(line) || (next !== undefined && /^\|[-|: ]+\|$/.test(next))
}
