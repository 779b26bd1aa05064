// The status page: puts its parts together and chooses between them and the sign-in form.
import { render } from "preact";
import "./app.css";
import { Connections } from "./connections";
import { Confirmation, notice } from "./dialog";
import { link, session, status, stayConnected } from "./live";
import { Namespaces } from "./namespaces";
import { Overview } from "./overview";
import type { Status } from "./server";
import { SignIn } from "./sign_in";
import { LostBanner, TopBar } from "./top_bar";
import { TryIt } from "./try_it";

function App() {
  return (
    <>
      <TopBar />
      <LostBanner />
      <main>
        {link.value.state === "sign-in" ? (
          <SignIn />
        ) : status.value ? (
          <Everything server={status.value} />
        ) : (
          <p class="waiting">Waiting for the server …</p>
        )}
      </main>
      <Confirmation />
      <div class="notice" role="status">
        {notice}
      </div>
    </>
  );
}

function Everything({ server }: { server: Status }) {
  return (
    <>
      <Overview server={server} />
      <div class="below">
        <Namespaces />
        <Connections />
        {session.value && <TryIt publish={session.value.publish} />}
      </div>
    </>
  );
}

render(<App />, document.getElementById("app")!);
void stayConnected();
