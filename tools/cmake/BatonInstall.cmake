# The installed package: headers, libraries, programs, and find_package(Baton).
