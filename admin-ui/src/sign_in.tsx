// The form that asks for the admin token. The page does not keep the token: the server answers with
// a cookie that scripts cannot read.
import { useSignal } from "@preact/signals";
import { signIn } from "./live";
import { errorText, ServerError } from "./server";

export function SignIn() {
  const token = useSignal("");
  const error = useSignal("");
  const submit = async (event: Event) => {
    event.preventDefault();
    error.value = "";
    try {
      await signIn(token.value);
    } catch (failure) {
      error.value =
        failure instanceof ServerError && failure.status === 401
          ? "This is not the admin token."
          : errorText(failure);
    }
  };
  return (
    <form class="panel sign-in" aria-labelledby="sign-in" onSubmit={submit}>
      <h2 id="sign-in">Sign in</h2>
      <label>
        Admin token
        <input
          type="password"
          autocomplete="current-password"
          required
          autofocus
          value={token}
          onInput={(event) => {
            token.value = event.currentTarget.value;
          }}
        />
      </label>
      <p class="error" role="alert">
        {error}
      </p>
      <button type="submit" class="primary">
        Sign in
      </button>
    </form>
  );
}
