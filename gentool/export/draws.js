// The random numbers of gentool/core/rng.py: Philox 4x64 with ten rounds (Salmon et al. 2011), a key
// from numpy's SeedSequence, and normal numbers by Box and Muller (1958).
const draws = (() => {
  const MASK32 = 0xffffffffn, MASK64 = 0xffffffffffffffffn;
  const times = Math.imul;

  const words32 = (value) => { // a BigInt as 32-bit words, the lowest first
    const words = [];
    do { words.push(Number(value & MASK32)); value >>= 32n; } while (value);
    return words;
  };

  // numpy.random.SeedSequence(integers).generate_state(2, uint64)
  const keyOf = (integers) => {
    const entropy = integers.flatMap(words32);
    const pool = [0, 0, 0, 0];
    let constant = 0x43b0d7e5;
    const hash = (value) => {
      value ^= constant;
      constant = times(constant, 0x931e8875);
      value = times(value, constant);
      return value ^ (value >>> 16);
    };
    const mix = (x, y) => {
      const mixed = (times(x, 0xca01f9dd) - times(y, 0x4973f715)) | 0;
      return mixed ^ (mixed >>> 16);
    };
    for (let k = 0; k < 4; k++) pool[k] = hash(k < entropy.length ? entropy[k] | 0 : 0);
    for (let from = 0; from < 4; from++) {
      for (let to = 0; to < 4; to++) if (from !== to) pool[to] = mix(pool[to], hash(pool[from]));
    }
    for (let from = 4; from < entropy.length; from++) {
      for (let to = 0; to < 4; to++) pool[to] = mix(pool[to], hash(entropy[from] | 0));
    }
    constant = 0x8b51f9dd;
    const state = pool.map((word) => {
      word ^= constant;
      constant = times(constant, 0x58f38ded);
      word = times(word, constant);
      return BigInt((word ^ (word >>> 16)) >>> 0);
    });
    return [state[0] | (state[1] << 32n), state[2] | (state[3] << 32n)];
  };

  // The four words of one counter.
  const block = (key, counter) => {
    let [a, b, c, d] = [counter & MASK64, counter >> 64n, 0n, 0n];
    let [k, l] = key;
    for (let round = 0; round < 10; round++) {
      const left = a * 0xd2e7470ee14c6c93n, right = c * 0xca5a826395121157n;
      [a, b, c, d] = [(right >> 64n) ^ b ^ k, right & MASK64, (left >> 64n) ^ d ^ l, left & MASK64];
      k = (k + 0x9e3779b97f4a7c15n) & MASK64;
      l = (l + 0xbb67ae8584caa73bn) & MASK64;
    }
    return [a, b, c, d];
  };

  // Uniform numbers in [0, 1) of one sample; purpose holds the words of the key behind the seed.
  const uniform = (seed, purpose, index, count) => {
    const key = keyOf([seed, ...purpose.map(BigInt)]);
    const blocks = Math.ceil(count / 4);
    const first = BigInt(index) * BigInt(blocks) + 1n; // numpy counts up before it draws
    const found = new Float64Array(blocks * 4);
    for (let k = 0; k < blocks; k++) {
      block(key, first + BigInt(k)).forEach((word, n) => {
        found[4 * k + n] = Number(word >> 11n) * 2 ** -53;
      });
    }
    return found.subarray(0, count);
  };

  // Normal numbers of one sample.
  const normal = (seed, purpose, index, count) => {
    const pairs = Math.ceil(count / 2);
    const numbers = uniform(seed, purpose, index, 2 * pairs);
    const found = new Float32Array(2 * pairs);
    for (let k = 0; k < pairs; k++) {
      const radius = Math.sqrt(-2 * Math.log1p(-numbers[k]));
      const angle = 2 * Math.PI * numbers[pairs + k];
      found[k] = radius * Math.cos(angle);
      found[pairs + k] = radius * Math.sin(angle);
    }
    return found.subarray(0, count);
  };

  return { uniform, normal };
})();
