// A recording that plays: two tones in turn, 16-bit mono at 8 kHz, as telephony has it.

import { writeFileSync } from 'node:fs'

const RATE = 8000
const TONES = [440, 350] // Hz

export const writeRecording = (file: string, seconds: number): void => {
  const samples = RATE * seconds
  const wav = Buffer.alloc(44 + samples * 2)
  wav.write('RIFF', 0)
  wav.writeUInt32LE(36 + samples * 2, 4)
  wav.write('WAVEfmt ', 8)
  wav.writeUInt32LE(16, 16)
  wav.writeUInt16LE(1, 20) // PCM
  wav.writeUInt16LE(1, 22) // one channel
  wav.writeUInt32LE(RATE, 24)
  wav.writeUInt32LE(RATE * 2, 28)
  wav.writeUInt16LE(2, 32)
  wav.writeUInt16LE(16, 34)
  wav.write('data', 36)
  wav.writeUInt32LE(samples * 2, 40)
  for (let at = 0; at < samples; at++) {
    const tone = TONES[Math.floor((2 * at) / RATE) % TONES.length] ?? 440
    wav.writeInt16LE(Math.round(8000 * Math.sin((2 * Math.PI * tone * at) / RATE)), 44 + at * 2)
  }
  writeFileSync(file, wav)
}
