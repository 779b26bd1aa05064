# Functions of the scripts that run the tests. They change to their own folder and read this file.

# install: installs the packages for Node.js.
install() {
    npm --prefix .. ci --no-audit --no-fund --silent
}

# build [EXAMPLE]: builds the program or an example, and prints its path.
build() {
    local target
    cargo build --locked --release --quiet ${1:+--example "$1"} &&
        target=$(cargo metadata --locked --format-version 1 --no-deps |
            node -pe 'JSON.parse(require("fs").readFileSync(0)).target_directory') &&
        echo "$target/release/${1:+examples/}${1:-fanfare}"
}
