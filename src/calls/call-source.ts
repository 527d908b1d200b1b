// The port to whatever tells whose call a recording is of. A source answers from memory: a check waits for nothing.

/** Who surely took part in the call that a recording is of. `recording`: its path below the recordings folder, as nginx resolved it. */
export interface CallSource {
  readonly name: 'names' | 'cdr'
  /** Numbers. Undefined: this source does not know the recording; []: it knows it, and nobody is surely a party. */
  partiesOf(recording: string): readonly string[] | undefined
}
