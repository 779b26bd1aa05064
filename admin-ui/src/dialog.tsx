// Modal dialogs. The browser's dialog element traps the focus, closes on Escape and restores the
// focus.
import { signal, useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { errorText } from "./server";

export function Dialog({
  title,
  kind = "",
  onClose,
  children,
}: {
  title: string;
  kind?: string;
  onClose: () => void;
  children: ComponentChildren;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = dialog.current!;
    element.showModal();
    return () => element.close();
  }, []);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the browser closes it on Escape
    <dialog
      ref={dialog}
      class={kind}
      aria-label={title}
      onClose={onClose}
      onClick={(event) => event.target === dialog.current && onClose()}
    >
      <div class="dialog-body">
        <h2>{title}</h2>
        {children}
      </div>
    </dialog>
  );
}

interface Question {
  title: string;
  text: string;
  /** Carries out the action and returns the notice to show. */
  run: () => Promise<string>;
}

const question = signal<Question | null>(null);

/** Asks for confirmation before an action that cannot be undone. */
export function confirm(request: Question) {
  question.value = request;
}

/** The result of the last action, read out by screen readers. */
export const notice = signal("");
let noticeTimer: ReturnType<typeof setTimeout>;

function showNotice(text: string) {
  notice.value = text;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => {
    notice.value = "";
  }, 6000);
}

export function Confirmation() {
  const request = question.value;
  return request && <ConfirmDialog key={request} {...request} />;
}

function ConfirmDialog({ title, text, run }: Question) {
  const error = useSignal("");
  const busy = useSignal(false);
  const close = () => {
    question.value = null;
  };
  const confirmAndRun = async () => {
    busy.value = true;
    error.value = "";
    try {
      const message = await run();
      close();
      showNotice(message);
    } catch (failure) {
      error.value = errorText(failure);
      busy.value = false;
    }
  };
  return (
    <Dialog title={title} onClose={close}>
      <p>{text}</p>
      <p class="error" role="alert">
        {error}
      </p>
      <div class="actions">
        <button type="button" onClick={close}>
          Cancel
        </button>
        <button type="button" class="danger" disabled={busy} onClick={confirmAndRun}>
          Confirm
        </button>
      </div>
    </Dialog>
  );
}
