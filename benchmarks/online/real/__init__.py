"""The online arms in real time, over one real server: nothing here is modelled but the tools' length."""
