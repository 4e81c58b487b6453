/** What one check of `doctor` found. */
export interface Finding {
  check: string
  state: 'ok' | 'warn' | 'fail'
  message: string
  /** What to do about it. */
  advice?: string
}
