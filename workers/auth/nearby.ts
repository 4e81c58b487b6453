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
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[j] as number) + 1, (next[j - 1] as number) + 1))
    }
    row = next
  }
  return row[b.length] as number
}
