// How the table of a CDR is described.

import * as v from 'valibot'

import { CDR_COLUMNS } from '../calls/cdr-row.ts'
import { type Kind, pairsSchema } from './kinds.ts'

const IDENTIFIER = '[A-Za-z_][A-Za-z0-9_]{0,63}'
const FIELDS = Object.keys(CDR_COLUMNS)
const COLUMN = new RegExp(`^(?:${FIELDS.join('|')})=${IDENTIFIER}$`)

export const identifier: Kind<string> = {
  expected: 'a name of letters, digits and _, at most 64',
  schema: v.pipe(v.string(), v.regex(new RegExp(`^${IDENTIFIER}$`))),
}

export const columns: Kind<ReadonlyMap<string, string>> = {
  expected: `a list such as ["source=src"], each of ${FIELDS.join(', ')} at most once`,
  schema: pairsSchema(COLUMN),
}
