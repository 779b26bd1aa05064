// The programs that the tests run, and the time limit of a test.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test as bare } from "node:test";

const programs = new Set();

/** A test with a time limit. */
export const test = (name, body) => bare(name, { timeout: 120_000 }, body);

/**
 * Starts a program that prints its address. Returns the address, the program's standard input, its
 * log so far, and the functions that stop it.
 */
export async function start(command, ...options) {
  const program = spawn(command, options);
  const chunks = [];
  const log = () => chunks.join("");
  program.stderr.setEncoding("utf8").on("data", (text) => chunks.push(text));
  programs.add(program);
  program.once("exit", () => programs.delete(program));
  const ended = once(program, "exit").then(([code]) => {
    throw new Error(`the program ended with ${code}: ${log()}`);
  });
  const [line] = await Promise.race([once(program.stdout, "data"), ended]);
  const url = /http:\S+/.exec(line.toString())[0];
  return {
    url,
    host: new URL(url).host,
    input: program.stdin,
    log,
    signal: (signal) => program.kill(signal),
    stop: async (signal = "SIGTERM") => {
      program.kill(signal);
      await once(program, "exit");
    },
  };
}

/** Ends the programs that a failed test left running. */
export function endPrograms() {
  for (const program of programs) program.kill("SIGKILL");
}
