const SHOWN = 8

/** The end of a "not found" message: the name that was probably meant, else some that exist. */
export function nearby(name: string, known: Iterable<string>): string {
  const names = [...known]
  if (names.length === 0) return 'There is none yet'
  const wanted = name.toLowerCase()
  const close = names.find((candidate) => distance(wanted, candidate.toLowerCase()) <= 2)
  if (close !== undefined) return `Did you mean ${close}?`
  const more = names.length > SHOWN ? `, and ${names.length - SHOWN} more` : ''
  return `There is ${names.slice(0, SHOWN).join(', ')}${more}`
}

/** Levenshtein distance: how many letters must be put in, taken out or replaced. */
function distance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return Number.POSITIVE_INFINITY
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  let last = b.length
  for (let i = 1; i <= a.length; i++) {
    let diagonal = 0
    row = row.map((above, j) => {
      const replaced = diagonal + (a[i - 1] === b[j - 1] ? 0 : 1)
      last = j === 0 ? i : Math.min(replaced, above + 1, last + 1)
      diagonal = above
      return last
    })
  }
  return last
}
