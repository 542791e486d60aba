// Command pulse is Go Pulse itself, driven from outside.
//
//	pulse ask URL  answers questions: a JSON document per line of input, one per line of output
//
// A question names what to do, and gives the rest beside it: {"do": "add", "stream": {"name": "users"}, ...}. Its
// answer is {"answer": ...} or {"error": text}. What is opened has a name ("as"), by which later questions find it.
// Bytes are base64, durations seconds. What can be done with streams is in streams.go, with maps in maps.go.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	patience   = 30 * time.Second       // for what should take one or two
	lookAgain  = 2 * time.Millisecond   // until something has come about
	clientName = "pulse-in-go"          // by which a test finds these connections at the server
	blockFor   = 100 * time.Millisecond // how long reads block: closing waits for them
)

// asked is what every question may be answered with.
type asked struct {
	ctx    context.Context
	client *redis.Client
	opened map[string]io.Closer
}

// deed answers one kind of question.
type deed func(*asked, json.RawMessage) (any, error)

var deeds = map[string]deed{
	"pid":   func(*asked, json.RawMessage) (any, error) { return os.Getpid(), nil },
	"close": closeOne,
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 2 || arguments[0] != "ask" {
		return fmt.Errorf("usage: pulse ask URL")
	}
	options, err := redis.ParseURL(arguments[1])
	if err != nil {
		return err
	}
	options.ClientName = clientName
	options.PoolSize = 100 // each reader and sink takes one for as long as it blocks
	client := redis.NewClient(options)
	defer client.Close()
	return answer(&asked{context.Background(), client, map[string]io.Closer{}}, os.Stdin, os.Stdout)
}

func answer(asked *asked, input io.Reader, output io.Writer) error {
	questions, written := json.NewDecoder(bufio.NewReader(input)), bufio.NewWriter(output)
	answers := json.NewEncoder(written)
	for questions.More() {
		var question json.RawMessage
		if err := questions.Decode(&question); err != nil {
			return err
		}
		given, err := asked.do(question)
		reply := map[string]any{"answer": given}
		if err != nil {
			reply = map[string]any{"error": err.Error()}
		}
		if err := answers.Encode(reply); err != nil {
			return err
		}
		if err := written.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func (a *asked) do(question json.RawMessage) (any, error) {
	var named struct{ Do string }
	if err := json.Unmarshal(question, &named); err != nil {
		return nil, err
	}
	todo, is := deeds[named.Do]
	if !is {
		return nil, fmt.Errorf("nobody knows how to %q", named.Do)
	}
	return todo(a, question)
}

// closeOne closes what was opened under a name: {"as": name}.
func closeOne(asked *asked, question json.RawMessage) (any, error) {
	var named struct{ As string }
	if err := json.Unmarshal(question, &named); err != nil {
		return nil, err
	}
	one, is := asked.opened[named.As]
	if !is {
		return nil, fmt.Errorf("nothing was opened as %q", named.As)
	}
	delete(asked.opened, named.As)
	return nil, one.Close()
}

// found is what was opened under a name.
func found[T io.Closer](asked *asked, name string) (T, error) {
	one, is := asked.opened[name].(T)
	if !is {
		return one, fmt.Errorf("no %T was opened as %q", one, name)
	}
	return one, nil
}

// wait returns when something has come about, or after a while in vain: the answer shows which.
func wait(isSo func() bool) {
	for deadline := time.Now().Add(patience); !isSo() && time.Now().Before(deadline); {
		time.Sleep(lookAgain)
	}
}

func seconds(count float64) time.Duration {
	return time.Duration(count * float64(time.Second))
}
